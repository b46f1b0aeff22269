"""Hugging Face Trainer: python docs/examples/with_transformers.py --data-dir FOLDER, or torchrun"""
import torch
from data import create_data, parse_args
from timm.optim import create_optimizer_v2
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainingArguments

from timm_sumix import SUMixMixup, SUMixTask


class SUMixTrainer(Trainer):
    """A Trainer whose model is what a SUMixTask trains: the timm model, with all passes in one forward."""

    def __init__(self, task: SUMixTask, **kwargs):
        super().__init__(model=task.trainable_module, **kwargs)
        self.task = task

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.task.trainable_module = model  # as the Trainer has wrapped it, for several processes
        self.task.train(model.training)  # nothing is mixed in evaluation
        result = self.task(inputs['pixel_values'], inputs['labels'])
        return (result['loss'], {'logits': result['output']}) if return_outputs else result['loss']

    def log(self, logs, *args, **kwargs):
        means = self.task.pop_metrics() if 'loss' in logs else {}  # how far labels moved
        super().log({**logs, **{f'sumix_{name}': value for name, value in means.items()}}, *args, **kwargs)


def collate(pairs):
    """The Trainer's names for a batch of unmixed images and their classes."""
    images, labels = zip(*pairs)
    return {'pixel_values': torch.stack(images), 'labels': torch.tensor(labels)}


def top1(prediction):
    return {'top1': 100 * (prediction.predictions.argmax(1) == prediction.label_ids).mean()}


args = parse_args()
train_data, validation_data = create_data(args)
# or TimmWrapperForImageClassification.from_pretrained('timm/resnet18.a1_in1k', num_labels=..., ...)
model = TimmWrapperForImageClassification(
    TimmWrapperConfig(architecture=args.model, num_labels=len(train_data.classes)))
mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=model.num_labels)
task = SUMixTask(model.timm_model, mixup)
optimizer = create_optimizer_v2(task.get_trainable_module(), opt='adamw', lr=1e-3, weight_decay=0.05)
trainer = SUMixTrainer(
    task, train_dataset=train_data, eval_dataset=validation_data, data_collator=collate, compute_metrics=top1,
    optimizers=(optimizer, None), args=TrainingArguments(
        output_dir=str(args.out.parent / 'trainer'), num_train_epochs=args.epochs, eval_strategy='epoch',
        per_device_train_batch_size=args.batch_size, remove_unused_columns=False, label_names=['labels'],
        logging_strategy='epoch', save_strategy='no', report_to='none'))
trainer.train()

if trainer.is_world_process_zero():
    model.save_pretrained(args.out.parent / 'model')  # from_pretrained loads it, as any other of transformers
    torch.save({'state_dict': model.timm_model.state_dict()}, args.out)  # and timm.create_model this one
