"""Plain PyTorch: python docs/examples/plain_loop.py --data-dir FOLDER, or torchrun --nproc_per_node 8 docs/..."""
import torch
from data import create_loaders, create_model, parse_args
from timm.optim import create_optimizer_v2
from timm.utils import init_distributed_device, is_primary

from timm_sumix import SUMixMixup, SUMixTask

args = parse_args()
args.device = 'cuda' if torch.cuda.is_available() else 'cpu'
device = init_distributed_device(args)  # sets args.distributed, rank and world_size by what torchrun says
train_loader, validation_loader = create_loaders(args, args.distributed)
model = create_model(args, train_loader).to(device)
mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=model.num_classes)
task = SUMixTask(model, mixup, verbose=is_primary(args))
optimizer = create_optimizer_v2(task.get_trainable_module(), opt='adamw', lr=1e-3, weight_decay=0.05)
task.setup_ema(decay=0.999)
if args.distributed:
    task.prepare_distributed(device_ids=[device])
amp = {'device_type': device.type, 'dtype': torch.bfloat16}

for epoch in range(args.epochs):
    if args.distributed:
        train_loader.sampler.set_epoch(epoch)
    task.train()
    for images, labels in train_loader:
        with torch.autocast(**amp):
            loss = task(images.to(device), labels.to(device))['loss']
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.get_clip_parameters(), 1.)
        optimizer.step()
        optimizer.zero_grad()
        task.update_ema()
    means = task.pop_metrics()  # how far labels moved, and the loss, over all processes

    averaged = task.get_eval_model(ema=True).eval()  # a plain timm model
    if is_primary(args):
        with torch.no_grad(), torch.autocast(**amp):
            correct = sum(
                (averaged(images.to(device)).argmax(1).cpu() == labels).sum().item()
                for images, labels in validation_loader)
        print(epoch, means, f'top-1 {100 * correct / len(validation_loader.dataset):.1f} %')

if is_primary(args):
    # timm.create_model(..., checkpoint_path=...) loads it
    torch.save({**task.get_checkpoint_state(), **task.get_checkpoint_state(ema=True)}, args.out)
if args.distributed:
    torch.distributed.destroy_process_group()
