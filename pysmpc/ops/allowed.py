"""Which of torch's decompositions secrets may take, and which they must not (pysmpc.ops.decompositions)."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operations that are never taken apart, whatever the overload.  Torch's formula passes through exponentials and
#: divisions that lose what fixed point has, or opens and computes again what its own protocol does in one go; that of
#: `multilabel_margin_loss_forward` is wrong for labels behind the first -1, that of `linalg_vector_norm` loses the
#: gradients of most powers.  `item` would open a value.
NEVER = _words(
    """
    _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data _safe_softmax gelu gelu_backward silu
    silu_backward sigmoid sigmoid_backward tanh tanh_backward softplus softplus_backward log_sigmoid_forward
    log_sigmoid_backward soft_margin_loss soft_margin_loss_backward native_layer_norm native_layer_norm_backward
    native_batch_norm native_batch_norm_backward native_group_norm native_group_norm_backward _native_batch_norm_legit
    _native_batch_norm_legit_functional _native_batch_norm_legit_no_training _batch_norm_with_update
    _batch_norm_with_update_functional _batch_norm_no_update batch_norm_backward cudnn_batch_norm
    cudnn_batch_norm_backward miopen_batch_norm_backward _fused_rms_norm _fused_rms_norm_backward convolution
    convolution_backward max_pool2d_with_indices max_pool2d_with_indices_backward max_pool3d_with_indices
    adaptive_max_pool2d adaptive_max_pool3d _adaptive_avg_pool2d multilabel_margin_loss_forward linalg_vector_norm
    _euclidean_dist pairwise_distance item
    """
)


def _named(names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in _words(names))


#: Taken as torch's own table has them: each of these is proved by a sample of torch's catalogue that takes this way,
#: and whose values and gradients are right (tests/ops/test_catalogue.py).
PROVED = _named(
    """
    _prelu_kernel.default _prelu_kernel_backward.default _unsafe_index.Tensor _unsafe_index_put.default
    _unsafe_masked_index.default _unsafe_masked_index_put_accumulate.default addcdiv.default addr.default
    alias_copy.default as_strided_copy.default block_diag.default channel_shuffle.default clamp_max.Tensor
    clamp_min.Tensor col2im.default deg2rad.default diag_embed.default diagonal_copy.default embedding.default
    embedding_dense_backward.default expand_copy.default fill.Scalar hardshrink.default hardsigmoid.default
    hardsigmoid_backward.default hardswish.default hardswish_backward.default huber_loss.default
    huber_loss_backward.default im2col.default ldexp.Tensor leaky_relu.default leaky_relu_backward.default
    linalg_cross.default masked_fill.Tensor max_unpool2d.default max_unpool3d.default
    nansum.default narrow_copy.default native_dropout_backward.default new_full.default
    permute_copy.default pixel_shuffle.default pixel_unshuffle.default rad2deg.default rot90.default
    rrelu_with_noise_backward.default smooth_l1_loss.default smooth_l1_loss_backward.default softshrink.default
    split_with_sizes_copy.default squeeze_copy.default squeeze_copy.dim t_copy.default threshold.default
    trace.default transpose_copy.int unbind_copy.int unfold_copy.default unsafe_split.Tensor
    unsqueeze_copy.default view_copy.default
    """
)

#: Whose parts need functions that have no handlers yet: refused until those are there, and then
#: proved by the same test.
WAITING = _named(
    """
    binary_cross_entropy.default binary_cross_entropy_with_logits.default
    celu.default dist.default elu.default elu_backward.default glu.default glu_backward.default
    logaddexp.default logaddexp2.default logit.default logit_backward.default mish.default mish_backward.default
    norm.Scalar norm.ScalarOpt_dim sinc.default std.correction std_mean.correction
    """
)

ALLOWED = PROVED | WAITING
