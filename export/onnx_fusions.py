"""One operator in place of the many that a converted Keras layer becomes.

ONNX Runtime fuses what PyTorch exports, but not what TensorFlow does. In a graph that runs once
for every token the small operators would take as long as the large ones.
"""

from typing import Any

import onnx
from onnxscript import ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import MatchResult, RewriteRule


def fuse_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with one operator for each layer normalisation and each linear map.

    Values stay the same but for rounding. Where none is found the model stays as it is.

    Args:
        model: converted from TensorFlow, opset 17 or later.
    """
    norm, linear = LayerNormalization(), LinearMap()
    rules = [
        RewriteRule(norm.pattern, norm.rewrite, norm.check),
        RewriteRule(linear.pattern, linear.rewrite, linear.check, remove_nodes=False),
    ]
    fused: onnx.ModelProto = rewrite(model, pattern_rewrite_rules=rules)
    return fused


def fuse_first_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with one convolution for scaling, folding and the convolution after them.

    Values stay the same but for rounding. Where none is found the model stays as it is.

    Args:
        model: converted from TensorFlow.
    """
    fold = FoldedConvolution()
    fused: onnx.ModelProto = rewrite(
        model, pattern_rewrite_rules=[RewriteRule(fold.pattern, fold.rewrite, fold.check)]
    )
    return fused


class FoldedConvolution:
    """conv(fold(scale x + offset)), where folding turns blocks of pixels into channels.

    On the pixels themselves it is one convolution, its kernel and stride larger by the side of a
    block. What it pads with is no longer zero, but the pixel that would be scaled to zero.
    """

    def pattern(
        self,
        op: Any,
        x: Any,
        scale: Any,
        offset: Any,
        split: Any,
        joined: Any,
        kernel: Any,
        bias: Any,
    ) -> Any:
        """Describes what is replaced: pixels [N, H, W, C] to what the convolution returns."""
        blocks = op.Reshape(op.Add(op.Mul(x, scale), offset), split)  # (N, H/s, s, W/s, s, C)
        folded = op.Reshape(op.Transpose(blocks, perm=[0, 1, 3, 2, 4, 5]), joined)
        planes = op.Transpose(folded, perm=[0, 3, 1, 2])
        return op.Conv(planes, kernel, bias, _outputs=["convolved"])

    def check(self, context: Any, convolved: Any, **found: Any) -> MatchResult:
        """Accepts one scale for all pixels, and blocks as wide as they are high."""
        result = MatchResult()
        constants = {name: _constant(found[name]) for name in ("scale", "offset", "split")}
        if None in constants.values() or None in map(_constant, (found["kernel"], found["bias"])):
            return result.fail("the weights are no constants")
        if not (isinstance(constants["scale"], float) and isinstance(constants["offset"], float)):
            return result.fail("pixels are scaled differently")
        *_, height, _, width, channels = constants["split"]
        if height != width or found["kernel"].const_value.shape[1] != height * width * channels:
            return result.fail("it is no convolution of square blocks")
        dilations = convolved.producer().attributes.get("dilations")
        if dilations is not None and set(dilations.value) != {1}:
            return result.fail("its kernel has gaps")
        return result

    def rewrite(self, op: Any, x: Any, convolved: Any, **found: Any) -> Any:
        """Writes the operators."""
        scale, offset, split = (_constant(found[name]) for name in ("scale", "offset", "split"))
        side, channels = split[4:]
        node = convolved.producer()
        settings = {name: setting.value for name, setting in node.attributes.items()}
        top, left, bottom, right = (side * size for size in settings.pop("pads", [0] * 4))
        kernel = found["kernel"].const_value.numpy()  # (out, side * side * C, h, w)
        out, _, *sizes = kernel.shape
        blocks = kernel.reshape(out, side, side, channels, *sizes)
        large = blocks.transpose(0, 3, 4, 1, 5, 2).reshape(
            out, channels, *(side * n for n in sizes)
        )
        bias = found["bias"].const_value.numpy() + offset * kernel.sum(axis=(1, 2, 3))
        framed = op.Pad(
            op.Transpose(x, perm=[0, 3, 1, 2]),
            op.Constant(value_ints=[0, 0, top, left, 0, 0, bottom, right]),
            op.Constant(value_float=-offset / scale),
        )
        return op.Conv(
            framed,
            op.initializer(ir.tensor(scale * large), f"{node.name}/kernel"),
            op.initializer(ir.tensor(bias), f"{node.name}/bias"),
            strides=[side * step for step in settings["strides"]],
            kernel_shape=list(large.shape[2:]),
        )


class LayerNormalization:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis.

    Source: Ba et al. 2016, "Layer Normalization", equation 4.
    """

    def pattern(self, op: Any, x: Any, axes: Any, epsilon: Any, gamma: Any, beta: Any) -> Any:
        """Describes what is replaced: the order in which TensorFlow adds up."""
        mean = op.ReduceMean(x, axes, keepdims=1)
        centred = op.Sub(x, mean)
        variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1)
        scale = op.Mul(op.Reciprocal(op.Sqrt(op.Add(variance, epsilon))), gamma)
        return op.Add(op.Mul(x, scale), op.Add(op.Mul(op.Neg(mean), scale), beta))

    def check(
        self, context: Any, x: Any, axes: Any, epsilon: Any, gamma: Any, beta: Any
    ) -> MatchResult:
        """Accepts weights that vary along the last axis, if that is the one."""
        result = MatchResult()
        weights = [_constant(value) for value in (epsilon, gamma, beta)]
        if any(weight is None for weight in weights):
            return result.fail("the weights are no constants")
        shape = gamma.const_value.shape
        if _constant(axes) not in ([-1], [len(shape) - 1]) or any(n != 1 for n in shape[:-1]):
            return result.fail("it is not the last axis alone")
        return result

    def rewrite(self, op: Any, x: Any, axes: Any, epsilon: Any, gamma: Any, beta: Any) -> Any:
        """Writes the operator; its weights have one axis."""
        weights = [op.Reshape(weight, op.Constant(value_ints=[-1])) for weight in (gamma, beta)]
        return op.LayerNormalization(x, *weights, axis=-1, epsilon=float(_constant(epsilon)))


class LinearMap:
    """A matrix applied to the last axis of [..., K], through [M, K] and back to [..., L]."""

    def pattern(self, op: Any, x: Any, flat: Any, matrix: Any, kept: Any, units: Any) -> Any:
        """Describes what is replaced."""
        rows = op.MatMul(op.Reshape(x, flat), matrix)
        kept_sizes = op.Gather(op.Cast(op.Shape(x)), kept, axis=0)
        return op.Reshape(rows, op.Cast(op.Concat(kept_sizes, units, axis=0)))

    def check(
        self, context: Any, x: Any, flat: Any, matrix: Any, kept: Any, units: Any
    ) -> MatchResult:
        """Accepts a constant matrix if all axes but the last come back."""
        result = MatchResult()
        if matrix.const_value is None:
            return result.fail("the matrix is no constant")
        inner, outer = matrix.const_value.shape
        axes = _constant(kept)
        if _constant(flat) != [-1, inner] or _constant(units) != [outer]:
            return result.fail("it is not the last axis alone")
        if axes != list(range(len(axes or []))):
            return result.fail("axes are left out or exchanged")
        return result

    def rewrite(self, op: Any, x: Any, flat: Any, matrix: Any, kept: Any, units: Any) -> Any:
        """Writes the operator."""
        return op.MatMul(x, matrix)


def _constant(value: Any) -> Any:
    """Returns the numbers of a constant, None for what is none."""
    return None if value.const_value is None else value.const_value.numpy().tolist()
