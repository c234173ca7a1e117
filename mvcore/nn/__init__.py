"""Networks: encoders and decoders."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.nn.conv import (
        ConvDecoder as ConvDecoder,
        ConvEncoder as ConvEncoder,
        image_shape as image_shape,
        pyramid as pyramid,
    )
    from mvcore.nn.joint import JointEncoder as JointEncoder
    from mvcore.nn.mlp import (
        LatentHead as LatentHead,
        MLPDecoder as MLPDecoder,
        MLPEncoder as MLPEncoder,
        joined as joined,
        layers as layers,
    )
    from mvcore.nn.protocols import Decoder as Decoder, Encoder as Encoder
    from mvcore.nn.resnet import ResNetDecoder as ResNetDecoder, ResNetEncoder as ResNetEncoder
    from mvcore.nn.specs import (
        Conv1dDecoderConfig as Conv1dDecoderConfig,
        Conv1dEncoderConfig as Conv1dEncoderConfig,
        Conv3dDecoderConfig as Conv3dDecoderConfig,
        Conv3dEncoderConfig as Conv3dEncoderConfig,
        ConvDecoderConfig as ConvDecoderConfig,
        ConvEncoderConfig as ConvEncoderConfig,
        MLPDecoderConfig as MLPDecoderConfig,
        MLPEncoderConfig as MLPEncoderConfig,
        ResNetDecoderConfig as ResNetDecoderConfig,
        ResNetEncoderConfig as ResNetEncoderConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "conv": ("ConvDecoder", "ConvEncoder", "image_shape", "pyramid"),
            "joint": ("JointEncoder",),
            "mlp": ("LatentHead", "MLPDecoder", "MLPEncoder", "joined", "layers"),
            "protocols": ("Decoder", "Encoder"),
            "resnet": ("ResNetDecoder", "ResNetEncoder"),
            "specs": (
                "Conv1dDecoderConfig",
                "Conv1dEncoderConfig",
                "Conv3dDecoderConfig",
                "Conv3dEncoderConfig",
                "ConvDecoderConfig",
                "ConvEncoderConfig",
                "MLPDecoderConfig",
                "MLPEncoderConfig",
                "ResNetDecoderConfig",
                "ResNetEncoderConfig",
            ),
        },
    )
