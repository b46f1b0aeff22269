"""Models of the paper's small-image tables, registered with timm: importing this module is enough.

ResNet and ResNeXt with the stem that CIFAR-sized images need, 3 x 3 at stride 1 without max-pool:
Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385
Aggregated Residual Transformations for Deep Neural Networks, https://arxiv.org/abs/1611.05431
Wide ResNet: Wide Residual Networks, https://arxiv.org/abs/1605.07146
"""
import torch.nn as nn
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.resnetv2 import ResNetV2

__all__ = ['resnet18_cifar', 'resnext50_32x4d_cifar', 'wide_resnet10_1', 'wide_resnet28_8']


class CifarResNet(ResNet):
    """timm's ResNet with a stem for small images: one 3 x 3 convolution at stride 1, and no max-pool."""

    def __init__(self, *args, in_chans: int = 3, **kwargs):
        super().__init__(*args, in_chans=in_chans, **kwargs)
        self.conv1 = nn.Conv2d(in_chans, self.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode='fan_out', nonlinearity='relu')
        self.maxpool = nn.Identity()
        _set_reductions(self)


class CifarResNetV2(ResNetV2):
    """timm's ResNetV2 (pre-activation) with a 3 x 3 stem of 16 channels, no max-pool; a stem of stride 2 is fast."""

    def __init__(self, *args, in_chans: int = 3, stem_stride: int = 1, **kwargs):
        super().__init__(*args, in_chans=in_chans, stem_chs=16, stem_type='fixed', **kwargs)
        self.stem = nn.Sequential()
        self.stem.add_module('conv', nn.Conv2d(in_chans, 16, 3, stride=stem_stride, padding=1, bias=False))
        nn.init.kaiming_normal_(self.stem.conv.weight, mode='fan_out', nonlinearity='relu')
        _set_reductions(self, stem_stride)


def _set_reductions(model: nn.Module, stem_stride: int = 1) -> None:
    """Correct the strides in feature_info, which timm counts from a stem of stride 4."""
    for info in model.feature_info:
        info['reduction'] = max(1, info['reduction'] // 4) * stem_stride


def _cfg(**kwargs):
    return {
        'url': '', 'num_classes': 100, 'input_size': (3, 32, 32), 'pool_size': (4, 4), 'crop_pct': 1.,
        'interpolation': 'bicubic', 'mean': (0.4914, 0.4822, 0.4465), 'std': (0.2023, 0.1994, 0.201),
        'first_conv': 'conv1', 'classifier': 'fc', **kwargs}


default_cfgs = generate_default_cfgs({
    **{f'{name}.untrained': _cfg() for name in ('resnet18_cifar', 'resnext50_32x4d_cifar')},
    **{f'{name}.untrained': _cfg(pool_size=(8, 8), first_conv='stem.conv', classifier='head.fc')
       for name in ('wide_resnet28_8', 'wide_resnet10_1')},
})


@register_model
def resnet18_cifar(pretrained: bool = False, **kwargs) -> CifarResNet:
    """ResNet-18 for small images, 11.2 M parameters at 100 classes."""
    kwargs = {'block': BasicBlock, 'layers': (2, 2, 2, 2), **kwargs}
    return build_model_with_cfg(CifarResNet, 'resnet18_cifar', pretrained, **kwargs)


@register_model
def resnext50_32x4d_cifar(pretrained: bool = False, **kwargs) -> CifarResNet:
    """ResNeXt-50 32x4d for small images, 23.2 M parameters at 100 classes."""
    kwargs = {'block': Bottleneck, 'layers': (3, 4, 6, 3), 'cardinality': 32, 'base_width': 4, **kwargs}
    return build_model_with_cfg(CifarResNet, 'resnext50_32x4d_cifar', pretrained, **kwargs)


@register_model
def wide_resnet28_8(pretrained: bool = False, **kwargs) -> CifarResNetV2:
    """Wide ResNet 28-8, 23.4 M parameters at 100 classes."""
    return _wide_resnet('wide_resnet28_8', pretrained, **{'layers': (4, 4, 4), 'channels': (128, 256, 512), **kwargs})


@register_model
def wide_resnet10_1(pretrained: bool = False, **kwargs) -> CifarResNetV2:
    """Wide ResNet 10-1, 0.08 M parameters at 10 classes: small enough to train on a CPU."""
    return _wide_resnet('wide_resnet10_1', pretrained, **{'layers': (1, 1, 1), 'channels': (16, 32, 64), **kwargs})


def _wide_resnet(name: str, pretrained: bool, **kwargs) -> CifarResNetV2:
    kwargs = {
        'basic': True, 'bottle_ratio': 1., 'preact': True, 'zero_init_last': False,
        'conv_layer': create_conv2d, 'norm_layer': BatchNormAct2d, **kwargs}
    feature_cfg = {'flatten_sequential': True, 'out_indices': (0, 1, 2, 3)}
    return build_model_with_cfg(CifarResNetV2, name, pretrained, feature_cfg=feature_cfg, **kwargs)
