"""Lightning: python docs/examples/with_lightning.py --data-dir FOLDER"""
import lightning
import torch
from data import create_loaders, create_model, parse_args
from timm.optim import create_optimizer_v2

from timm_sumix import SUMixMixup, SUMixTask


class Classifier(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=model.num_classes)
        self.task = SUMixTask(model, mixup, verbose=False)

    def training_step(self, batch, _):
        return self.task(*batch)['loss']

    def on_train_epoch_end(self):
        self.log_dict({f'sumix_{name}': value for name, value in self.task.pop_metrics().items()})

    def validation_step(self, batch, _):
        result = self.task(*batch)  # Lightning has put it in eval mode: clean images
        self.log('val_loss', result['loss'], prog_bar=True, sync_dist=True)
        self.log('val_top1', (result['output'].argmax(1) == batch[1]).float().mean(), prog_bar=True, sync_dist=True)

    def configure_optimizers(self):
        return create_optimizer_v2(self.task.get_trainable_module(), opt='adamw', lr=1e-3, weight_decay=0.05)


if __name__ == '__main__':
    args = parse_args()
    train_loader, validation_loader = create_loaders(args)
    classifier = Classifier(create_model(args, train_loader))
    trainer = lightning.Trainer(max_epochs=args.epochs, default_root_dir=args.out.parent, log_every_n_steps=1)
    trainer.fit(classifier, train_loader, validation_loader)
    # Lightning's own checkpoint comes back whole; timm's has the model alone
    path = trainer.checkpoint_callback.best_model_path
    classifier = Classifier.load_from_checkpoint(path, model=create_model(args, train_loader))
    trainer.validate(classifier, validation_loader)
    torch.save(classifier.task.get_checkpoint_state(), args.out)
