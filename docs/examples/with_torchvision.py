"""A model that is not timm's: python docs/examples/with_torchvision.py --model vit --data-dir FOLDER

SUMixTask calls a model's forward_features, which returns its last feature map, then forward_head, which returns logits
or, with pre_logits, what they are made of. Eight lines give these to torchvision's models, or to your own.
"""
import torch
import torchvision
from data import create_loaders, parse_args
from torch import nn

from timm_sumix import SUMixMixup, SUMixTask


class ConvNet(nn.Module):
    """A torchvision ResNet: its map [N, D, h, w] is what comes before the pooling."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return nn.Sequential(*list(self.model.children())[:-2])(x)  # all but avgpool and fc

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.model.avgpool(x).flatten(1)
        return x if pre_logits else self.model.fc(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


class Transformer(ConvNet):
    """A torchvision VisionTransformer: its map is the tokens [N, 1 + h w, D], of which the first is the class's."""
    num_prefix_tokens = 1

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        class_token = self.model.class_token.expand(len(x), -1, -1)
        return self.model.encoder(torch.cat([class_token, self.model._process_input(x)], dim=1))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return x[:, 0] if pre_logits else self.model.heads(x[:, 0])


args = parse_args()
device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
train_loader, validation_loader = create_loaders(args)
num_classes = len(train_loader.dataset.classes)
if args.model == 'vit':  # ViT-Ti/16
    model = Transformer(torchvision.models.VisionTransformer(args.size, 16, 12, 3, 192, 768, num_classes=num_classes))
else:
    model = ConvNet(torchvision.models.get_model(args.model, num_classes=num_classes))
mixup = SUMixMixup(mixup_alpha=0., cutmix_alpha=1., mode='pair', num_classes=num_classes)
task = SUMixTask(model.to(device), mixup)
optimizer = torch.optim.AdamW(task.get_trainable_module().parameters(), lr=1e-3, weight_decay=0.05)

for epoch in range(args.epochs):
    task.train()
    for images, labels in train_loader:
        task(images.to(device), labels.to(device))['loss'].backward()
        optimizer.step()
        optimizer.zero_grad()
    print(epoch, task.pop_metrics())  # how far labels moved, and the loss
    model.eval()
    with torch.no_grad():
        correct = sum(
            (model(images.to(device)).argmax(1).cpu() == labels).sum().item() for images, labels in validation_loader)
    print(f'top-1 {100 * correct / len(validation_loader.dataset):.1f} %')
torch.save(model.model.state_dict(), args.out)  # torchvision's own names
