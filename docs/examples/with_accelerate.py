"""Hugging Face Accelerate: accelerate launch docs/examples/with_accelerate.py --data-dir FOLDER"""
import torch
from accelerate import Accelerator
from data import create_loaders, create_model, parse_args
from timm.optim import create_optimizer_v2

from timm_sumix import SUMixMixup, SUMixTask

args, accelerator = parse_args(), Accelerator()
train_loader, validation_loader = create_loaders(args)
model = create_model(args, train_loader)
mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=model.num_classes)
task = SUMixTask(model.to(accelerator.device), mixup, verbose=accelerator.is_main_process)
optimizer = create_optimizer_v2(task.get_trainable_module(), opt='adamw', lr=1e-3, weight_decay=0.05)
# what Accelerate wraps is the module that is trained, not the task
task.trainable_module, optimizer, train_loader, validation_loader = accelerator.prepare(
    task.trainable_module, optimizer, train_loader, validation_loader)

for epoch in range(args.epochs):
    task.train()
    for images, labels in train_loader:
        accelerator.backward(task(images, labels)['loss'])
        optimizer.step()
        optimizer.zero_grad()
    accelerator.print(epoch, task.pop_metrics())  # means over all processes

    task.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in validation_loader:
            found = task(images, labels)['output'].argmax(1)
            found, labels = accelerator.gather_for_metrics((found, labels))
            correct, total = correct + (found == labels).sum().item(), total + len(labels)
    accelerator.print(f'top-1 {100 * correct / total:.1f} %')

if accelerator.is_main_process:
    torch.save(task.get_checkpoint_state(), args.out)
