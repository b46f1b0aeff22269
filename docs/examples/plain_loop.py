"""Plain PyTorch: python docs/examples/plain_loop.py --data-dir FOLDER"""
import torch
from data import create_loaders, create_model, parse_args
from timm.optim import create_optimizer_v2

from timm_sumix import SUMixMixup, SUMixTask

args = parse_args()
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
train_loader, validation_loader = create_loaders(args)
model = create_model(args, train_loader).to(device)
mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=model.num_classes)
task = SUMixTask(model, mixup)
optimizer = create_optimizer_v2(task.get_trainable_module(), opt='adamw', lr=1e-3, weight_decay=0.05)

for epoch in range(args.epochs):
    task.train()
    for images, labels in train_loader:
        loss = task(images.to(device), labels.to(device))['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(epoch, task.pop_metrics())  # how far labels moved, and the loss

    task.eval()  # nothing is mixed: the loss of clean images
    with torch.no_grad():
        correct = sum(
            (task(images.to(device), labels.to(device))['output'].argmax(1).cpu() == labels).sum().item()
            for images, labels in validation_loader)
    print(f'top-1 {100 * correct / len(validation_loader.dataset):.1f} %')

torch.save(task.get_checkpoint_state(), args.out)  # timm.create_model(..., checkpoint_path=...) loads it
