"""One operator in place of the many that a converted Keras layer becomes.

ONNX Runtime fuses what PyTorch exports, but not what TensorFlow does. In a graph that runs once
for every token the small operators would take as long as the large ones.
"""

from typing import Any

import onnx
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
