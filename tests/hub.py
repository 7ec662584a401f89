"""Every backbone of keras_hub, tiny: masked, pruned, trained a step, plain again.

python -m tests.hub [NAME ...] prints a row for each; without names, for all. It needs keras_hub.
"""

import inspect
import sys
import traceback
import warnings

import keras
import keras_hub
import numpy as np
from keras_hub.src.models.vae.vae_backbone import VAEBackbone

import lottery_tf
from lottery_tf import masking
from lottery_tf.masking.layers import Masked

V, WIDTH, WORDS, PIXELS = 40, 8, 8, 32
IMAGE = (PIXELS, PIXELS, 3)
TEXT = {"vocabulary_size": V, "num_layers": 1, "hidden_dim": WIDTH, "intermediate_dim": 16}
BERT = TEXT | {"num_heads": 2}
LLAMA = TEXT | {"num_query_heads": 2, "num_key_value_heads": 1}
GEMMA = LLAMA | {"head_dim": 4}
VIT = {"image_shape": IMAGE, "patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": WIDTH}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 16, 16, 16],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
    "image_shape": IMAGE,
}
QWEN3_5 = {
    "num_layers": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
    "partial_rotary_factor": 0.5,
}
T5GEMMA = {"vocabulary_size": V} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": WIDTH,
        "intermediate_dim": 16,
        "num_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "layer_types": ["full_attention", "sliding_attention"],
    }.items()
}
T5GEMMA |= {"sliding_window": 4, "cross_attention_hidden_size": WIDTH}

SMOL = {
    "vocabulary_size": V,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "num_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "rope_layer_enabled_list": [True, True],
    "layer_types": ["full_attention", "full_attention"],
    "mlp_bias": False,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 32,
    "rope_theta": 1e4,
    "partial_rotary_factor": 1.0,
}
HGNET = {
    "depths": [1, 1, 1],
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16],
    "stem_channels": [3, 8, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [(8, 8, 8, 1, 2, 3), (8, 8, 8, 1, 2, 3), (8, 8, 16, 1, 2, 3)],
    "apply_downsample": [False, True, True],
    "use_lightweight_conv_block": [False, False, True],
    "image_shape": IMAGE,
    "out_features": ["stage2", "stage3"],
}
HEADS = {"num_layers": 1, "num_heads": 2, "hidden_dim": WIDTH, "intermediate_dim": 16}


def two_towers(kind):
    """Make the encoders of a model of images and texts."""
    words = {"vocabulary_size": V, "embedding_dim": WIDTH, "max_sequence_length": WORDS}
    if kind == "SigLIP":
        words["projection_dim"] = WIDTH
    vision, text = (getattr(keras_hub.models, f"{kind}{of}Encoder") for of in ("Vision", "Text"))
    return {
        "vision_encoder": vision(patch_size=16, image_shape=IMAGE, **HEADS),
        "text_encoder": text(**words, **HEADS),
    }


def clip_text(name):
    options = HEADS | {"num_layers": 2, "intermediate_output_index": -2}
    return keras_hub.models.CLIPTextEncoder(
        vocabulary_size=V, embedding_dim=WIDTH, **options, max_sequence_length=WORDS, name=name
    )


# The arguments of each backbone; a function makes those that hold another model.
BACKBONES = {
    "AlbertBackbone": BERT | {"embedding_dim": 4},
    "BartBackbone": BERT,
    "BertBackbone": BERT,
    "BloomBackbone": BERT,
    "CSPNetBackbone": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "dark",
        "image_shape": IMAGE,
    },
    "DINOV2Backbone": VIT | {"intermediate_dim": 16, "position_embedding_shape": IMAGE},
    "DINOV3Backbone": VIT | {"intermediate_dim": 16},
    "DebertaV3Backbone": BERT | {"bucket_size": 4},
    "DeiTBackbone": VIT | {"intermediate_dim": 16},
    "DenseNetBackbone": {
        "stackwise_num_repeats": [1, 1, 1],
        "growth_rate": 4,
        "image_shape": IMAGE,
    },
    "DistilBertBackbone": BERT,
    "ESMBackbone": BERT,
    "ESM2Backbone": BERT,
    "EdRecBackbone": {
        "vocab_size": V,
        "num_layers_enc": 1,
        "num_layers_dec": 1,
        "hidden_dim": WIDTH,
        "intermediate_dim": 16,
        "num_heads": 2,
    },
    "ElectraBackbone": {
        "vocab_size": V,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": WIDTH,
        "embedding_dim": 4,
        "intermediate_dim": 16,
    },
    "FNetBackbone": TEXT,
    "FalconBackbone": TEXT | {"num_attention_heads": 2},
    "GPT2Backbone": BERT,
    "GPTNeoXBackbone": BERT | {"rotary_percentage": 0.5},
    "Gemma3Backbone": GEMMA | {"image_size": 16, "vision_encoder": None},
    "Gemma4Backbone": GEMMA | {"image_size": 16, "vision_encoder": None},
    "GemmaBackbone": GEMMA,
    "GptOssBackbone": LLAMA | {"num_experts": 2, "head_dim": 4},
    "Llama3Backbone": LLAMA,
    "LlamaBackbone": LLAMA,
    "MiTBackbone": {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "image_shape": IMAGE,
        "hidden_dims": [4, 8],
    },
    "MistralBackbone": LLAMA,
    "MixtralBackbone": LLAMA | {"num_experts": 2},
    "MoonshineBackbone": {
        "vocabulary_size": V,
        "filter_dim": 8,
        "encoder_num_layers": 1,
        "decoder_num_layers": 1,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "encoder_num_heads": 2,
        "decoder_num_heads": 2,
    },
    "OPTBackbone": BERT,
    "PaliGemmaBackbone": GEMMA
    | {
        "image_size": 16,
        "vit_patch_size": 4,
        "vit_num_heads": 2,
        "vit_hidden_dim": 8,
        "vit_num_layers": 1,
        "vit_intermediate_dim": 16,
    },
    "Phi3Backbone": LLAMA,
    "Qwen2Backbone": LLAMA,
    "QwenBackbone": LLAMA,
    "Qwen3Backbone": GEMMA,
    "Qwen3MoeBackbone": GEMMA | {"moe_intermediate_dim": 8, "num_experts": 2, "top_k": 1},
    "Qwen3_5Backbone": GEMMA | QWEN3_5,
    "Qwen3_5MoeBackbone": {k: v for k, v in GEMMA.items() if k != "intermediate_dim"}
    | QWEN3_5
    | {
        "moe_intermediate_dim": 8,
        "shared_expert_intermediate_size": 8,
        "num_experts": 2,
        "top_k": 1,
    },
    "QwenMoeBackbone": LLAMA
    | {
        "moe_intermediate_dim": 8,
        "shared_expert_intermediate_dim": 8,
        "num_experts": 2,
        "top_k": 1,
    },
    "RWKV7Backbone": {
        "hidden_size": 8,
        "head_size": 4,
        "num_layers": 2,
        "vocabulary_size": V,
        "intermediate_dim": 16,
        "gate_lora": 4,
        "mv_lora": 4,
        "aaa_lora": 4,
        "decay_lora": 4,
    },
    "ResNetBackbone": RESNET,
    "RetinaNetBackbone": lambda: {
        "image_encoder": keras_hub.models.ResNetBackbone(**RESNET),
        "min_level": 3,
        "max_level": 4,
        "use_p5": False,
        "image_shape": IMAGE,
    },
    "RobertaBackbone": BERT,
    "RoformerV2Backbone": BERT | {"head_size": 4},
    "SegFormerBackbone": lambda: {
        "image_encoder": keras_hub.models.MiTBackbone(**BACKBONES["MiTBackbone"]),
        "projection_filters": 8,
    },
    "DeepLabV3Backbone": lambda: {
        "image_encoder": keras_hub.models.ResNetBackbone(**RESNET),
        "spatial_pyramid_pooling_key": "P4",
        "low_level_feature_key": "P2",
        "upsampling_size": 4,
        "dilation_rates": [2],
        "image_shape": IMAGE,
    },
    "BASNetBackbone": lambda: {
        "image_encoder": keras_hub.models.ResNetBackbone(
            **{name: value for name, value in RESNET.items() if name != "image_shape"}
        ),
        "num_classes": 1,
        "image_shape": IMAGE,
    },
    "SmolLM3Backbone": SMOL,
    "SmolLMBackbone": SMOL,
    "SwinTransformerBackbone": {
        "image_shape": IMAGE,
        "embed_dim": 8,
        "depths": [2, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
    "T5Backbone": BERT,
    "T5Gemma2Backbone": T5GEMMA,
    "T5GemmaBackbone": T5GEMMA,
    "VGGBackbone": {
        "stackwise_num_repeats": [1, 1],
        "stackwise_num_filters": [8, 8],
        "image_shape": IMAGE,
    },
    "ViTBackbone": VIT | {"mlp_dim": 16},
    "ViTDetBackbone": {
        "hidden_size": 8,
        "num_layers": 2,
        "intermediate_dim": 16,
        "num_heads": 2,
        "global_attention_layer_indices": [1],
        "image_shape": IMAGE,
        "patch_size": 8,
        "num_output_channels": 8,
        "window_size": 2,
    },
    "WhisperBackbone": BERT | {"num_mels": 4, "max_encoder_sequence_length": 2 * WORDS},
    "XLMRobertaBackbone": BERT,
    "XLNetBackbone": BERT,
    "XceptionBackbone": {
        "stackwise_conv_filters": [[8, 8], [8, 16]],
        "stackwise_pooling": [True, False],
        "image_shape": IMAGE,
    },
    "BLIP2Backbone": lambda: {
        "vision_encoder": keras_hub.models.BLIP2VisionEncoder(
            image_size=PIXELS,
            patch_size=16,
            **HEADS,
            use_patch_bias=True,
            use_class_token=True,
            use_mha_bias=True,
            use_mlp_bias=True,
            dropout_rate=0.0,
            layer_norm_epsilon=1e-6,
            initializer_range=0.02,
        ),
        "qformer": keras_hub.models.BLIP2QFormer(
            num_query_tokens=2,
            **HEADS,
            vision_dim=WIDTH,
            cross_attention_frequency=1,
            dropout=0.0,
            layer_norm_epsilon=1e-6,
        ),
        "language_model": keras_hub.models.BLIP2CustomOPT(
            vocabulary_size=V,
            **HEADS,
            num_query_tokens=2,
            dropout=0.0,
            max_sequence_length=2 * WORDS,
            qformer_hidden_dim=WIDTH,
        ),
    },
    "CLIPBackbone": lambda: two_towers("CLIP") | {"projection_dim": WIDTH},
    "MetaCLIP2Backbone": lambda: two_towers("MetaCLIP2") | {"projection_dim": WIDTH},
    "SigLIPBackbone": lambda: two_towers("SigLIP"),
    "DFineBackbone": lambda: {
        "backbone": keras_hub.models.HGNetV2Backbone(**HGNET),
        "decoder_in_channels": [8, 8],
        "encoder_hidden_dim": 8,
        "num_labels": 3,
        "num_denoising": 0,
        "learn_initial_query": False,
        "num_queries": 4,
        "anchor_image_size": (PIXELS, PIXELS),
        "feat_strides": [8, 16],
        "num_feature_levels": 2,
        "hidden_dim": 8,
        "encoder_in_channels": [8, 16],
        "encode_proj_layers": [1],
        "num_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "num_encoder_layers": 1,
        "hidden_expansion": 0.5,
        "depth_multiplier": 0.5,
        "eval_idx": -1,
        "num_decoder_layers": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
        "decoder_n_points": [2, 2],
        "lqe_hidden_dim": 8,
        "num_lqe_layers": 2,
        "out_features": ["stage2", "stage3"],
        "image_shape": IMAGE,
        "seed": 0,
    },
    "DepthAnythingBackbone": lambda: {
        "image_encoder": keras_hub.models.DINOV2Backbone(
            **VIT | {"num_layers": 4, "patch_size": 4},
            intermediate_dim=16,
            position_embedding_shape=IMAGE,
        ),
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_dims": [8, 8, 8, 8],
        "fusion_hidden_dim": 8,
        "head_hidden_dim": 8,
        "head_in_index": -1,
        "feature_keys": ["stage1", "stage2", "stage3", "stage4"],
    },
    "EfficientNetBackbone": {
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["fused", "unfused"],
        "stackwise_force_input_filters": [0, 0],
        "stackwise_nores_option": [False, False],
        "num_features": 16,
        "input_shape": IMAGE,
    },
    "FluxBackbone": {
        "input_channels": 4,
        "hidden_size": 16,
        "mlp_ratio": 2.0,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [2, 2, 4],
        "theta": 10_000,
        "use_bias": True,
        "guidance_embed": True,
        "image_shape": (4, 4),
        "text_shape": (4, 4),
        "image_ids_shape": (4, 3),
        "text_ids_shape": (4, 3),
        "y_shape": (8,),
    },
    "Gemma3nBackbone": {
        "text_vocab_size": V,
        "text_hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": [16, 16],
        "hidden_activation": "gelu_approximate",
        "layer_types": ["full_attention", "sliding_attention"],
        "sliding_window": 4,
        "rope_theta": 1e4,
        "max_position_embeddings": 2 * WORDS,
        "vocab_size_per_layer_input": V,
        "hidden_size_per_layer_input": 2,
        "altup_num_inputs": 2,
        "laurel_rank": 1,
    },
    "HGNetV2Backbone": HGNET,
    "MobileNetBackbone": {
        "stackwise_expansion": [[8], [16, 16]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [8, 8]],
        "stackwise_kernel_size": [[3], [5, 5]],
        "stackwise_num_strides": [[2], [2, 1]],
        "stackwise_se_ratio": [[None], [0.25, 0.25]],
        "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1], [2, 2]],
        "output_num_filters": 16,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 16,
        "squeeze_and_excite": 0.5,
        "image_shape": IMAGE,
    },
    "MobileNetV5Backbone": {
        "stackwise_block_types": [["er"], ["uir", "mqa"]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [16, 16]],
        "stackwise_strides": [[2], [2, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[2.0], [2.0, 2.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 3]],
        "stackwise_dw_start_kernel_sizes": [[0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0]],
        "stackwise_num_heads": [[0], [0, 2]],
        "stackwise_key_dims": [[0], [0, 4]],
        "stackwise_value_dims": [[0], [0, 4]],
        "stackwise_kv_strides": [[0], [0, 1]],
        "stackwise_use_cpe": [[False], [False, False]],
        "use_msfa": False,
        "image_shape": IMAGE,
    },
    "PARSeqBackbone": lambda: {
        "image_encoder": keras_hub.models.ViTBackbone(**VIT, mlp_dim=16, use_class_token=False),
        "vocabulary_size": V,
        "max_label_length": 2 * WORDS,
        "decoder_hidden_dim": WIDTH,
        "num_decoder_layers": 1,
        "num_decoder_heads": 2,
        "decoder_mlp_dim": 16,
    },
    "SAM3PromptableConceptBackbone": lambda: {
        "vision_encoder": keras_hub.layers.SAM3VisionEncoder(
            image_shape=(56, 56, 3),
            patch_size=14,
            **HEADS,
            fpn_hidden_dim=WIDTH,
            fpn_scale_factors=[4.0, 2.0, 1.0, 0.5],
            pretrain_image_shape=(56, 56, 3),
            window_size=2,
            global_attn_indexes=[0],
        ),
        "text_encoder": keras_hub.layers.SAM3TextEncoder(
            vocabulary_size=V, embedding_dim=WIDTH, **HEADS
        ),
        "geometry_encoder": keras_hub.layers.SAM3GeometryEncoder(**HEADS, roi_size=3),
        "detr_encoder": keras_hub.layers.SAM3DetrEncoder(**HEADS),
        "detr_decoder": keras_hub.layers.SAM3DetrDecoder(
            image_shape=(56, 56, 3), patch_size=14, **HEADS, num_queries=4
        ),
        "mask_decoder": keras_hub.layers.SAM3MaskDecoder(
            num_upsampling_stages=3, hidden_dim=WIDTH, num_heads=2
        ),
    },
    "SAMBackbone": lambda: {
        "image_encoder": keras_hub.models.ViTDetBackbone(**BACKBONES["ViTDetBackbone"]),
        "prompt_encoder": keras_hub.layers.SAMPromptEncoder(
            hidden_size=8, image_embedding_size=(4, 4), input_image_size=(PIXELS, PIXELS)
        ),
        "mask_decoder": keras_hub.layers.SAMMaskDecoder(
            num_layers=1,
            hidden_size=8,
            intermediate_dim=16,
            num_heads=2,
            embedding_dim=8,
            iou_head_hidden_dim=8,
        ),
    },
    "StableDiffusion3Backbone": lambda: {
        "mmdit_patch_size": 2,
        "mmdit_hidden_dim": 16,
        "mmdit_num_layers": 2,
        "mmdit_num_heads": 2,
        "mmdit_position_size": 8,
        "mmdit_qk_norm": None,
        "mmdit_dual_attention_indices": None,
        "vae": VAEBackbone(**BACKBONES["VAEBackbone"]),
        "clip_l": clip_text("clip_l"),
        "clip_g": clip_text("clip_g"),
        "latent_channels": 16,
        "image_shape": IMAGE,
    },
    "VAEBackbone": {
        "encoder_num_filters": [32, 32],
        "encoder_num_blocks": [1, 1],
        "decoder_num_filters": [32, 32],
        "decoder_num_blocks": [1, 1],
        "sampler_method": "mode",  # nothing drawn, so that two calls give the same
    },
    "VideoPrismBackbone": {
        "num_frames": 2,
        "patch_size": 16,
        "hidden_dim": WIDTH,
        "intermediate_dim": 16,
        "num_heads": 2,
        "num_spatial_layers": 1,
        "num_temporal_layers": 1,
        "num_auxiliary_layers": 1,
        "vocabulary_size": V,
        "num_text_layers": 1,
        "image_shape": IMAGE,
    },
}
ABSTRACT = {
    "Backbone": "the base class",
    "FeaturePyramidBackbone": "a base class",
}


def make(name):
    options = BACKBONES[name]
    options = options() if callable(options) else options
    kind = VAEBackbone if name == "VAEBackbone" else getattr(keras_hub.models, name)
    names = inspect.signature(kind.__init__).parameters
    if "max_sequence_length" in names:
        options = {"max_sequence_length": 2 * WORDS} | options
    return kind(**options)


def inputs_of(model):
    """Make an array for each input: two examples."""
    generator = np.random.default_rng(0)

    def array(tensor):
        name, shape = tensor.name, [2, *tensor.shape[1:]]
        free = PIXELS if len(shape) == 4 else 2 * WORDS if "feature" in name else WORDS
        if "audio" in name or "input_values" in name:
            free = 2048
        if "box" in name and len(shape) < 4:  # of more, SAM3's masks do not fit its attention
            free = 1
        shape = [size or free for size in shape]
        if "mask" in name and "token" not in name:
            return np.ones(shape, tensor.dtype)
        if "int" in tensor.dtype:
            kinds = "segment" in name or "labels" in name  # numbers of kinds, not of words
            return generator.integers(1, 2 if kinds else V, shape)
        if name == "boxes":  # corners, or a center and sizes, as shares of the image
            return generator.uniform(0.2, 0.8, shape).astype(tensor.dtype)
        return generator.normal(0, 1, shape).astype(tensor.dtype)

    return keras.tree.map_structure(array, model.input)


def outputs_of(model, inputs):
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(out, np.float64) for out in outputs]  # also of bools


def far(first, second):
    """Return the largest difference, as a share of the largest output."""
    return max(
        float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 1e-6) if a.size else 0.0
        for a, b in zip(first, second, strict=True)
    )


def check(name):
    """Return the row of a backbone: how it was masked, its counts, and what is wrong."""
    keras.utils.set_random_seed(0)
    model = make(name)
    inputs = inputs_of(model)
    before = outputs_of(model, inputs)
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    refused, wrong = "", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            masked, way = lottery_tf.masked(model), "masked"
        except lottery_tf.errors.InputError as error:
            refused, way = str(error), "mask"
            masked = lottery_tf.mask(model)
        dense = [str(w.message) for w in caught if "Left dense" in str(w.message)]
    if not far(before, outputs_of(masked, inputs)) < 1e-5:
        wrong.append("masked: other outputs")
    density = lottery_tf.prune(masked, density=0.5, scope="layer")
    if abs(density - 0.5) > 0.02:
        wrong.append(f"density {density:.3f}")
    masked.compile(keras.optimizers.SGD(0.01), loss="mse", jit_compile=False)
    targets = keras.tree.map_structure(
        lambda out: np.asarray(out, np.float32) + 1, masked(inputs, training=False)
    )
    first = masked.get_weights()
    loss = masked.train_on_batch(inputs, targets)
    if not np.all(np.isfinite(loss)):
        wrong.append(f"loss {loss}")
    if all(np.array_equal(a, b) for a, b in zip(first, masked.get_weights(), strict=True)):
        wrong.append("training changed nothing")
    kernels = masking.kernels(masked)
    if any(k.variable.numpy()[~k.mask.numpy()].any() for k in kernels.values()):
        wrong.append("pruned weights came back")
    trained = outputs_of(masked, inputs)
    try:
        plain = lottery_tf.unmasked(masked)
    except lottery_tf.errors.InputError:
        plain, way = lottery_tf.unmask(masked), f"{way}, unmask"
    if any(isinstance(layer, Masked) for layer in plain._flatten_layers()):
        wrong.append("masks are left")
    if not far(trained, outputs_of(plain, inputs)) < 1e-5:
        wrong.append("unmasked: other outputs")
    share = sum(kernel.mask.numpy().size for kernel in kernels.values()) / weights
    return way, len(kernels), share, "; ".join(wrong), refused, dense


def main(names):
    print(
        f"keras_hub {keras_hub.__version__}, keras {keras.__version__}: {keras.backend.backend()}"
    )
    print("| backbone | by | kernels | weights masked | result |\n|---|---|---|---|---|")
    every = sorted(
        name for name in (*dir(keras_hub.models), "VAEBackbone") if name.endswith("Backbone")
    )
    for name in names or every:
        if name in ABSTRACT or name not in BACKBONES:
            print(f"| {name} | | | | not tried: {ABSTRACT.get(name, 'no row')} |", flush=True)
            continue
        notes = []
        try:
            way, kernels, share, wrong, refused, notes = check(name)
            row = f"{way} | {kernels} | {share:.0%} | {wrong or 'passed'}"
            if refused:
                row += f" (a copy is refused: {refused.splitlines()[0][:300]})"
        except Exception as error:  # whatever Keras and keras_hub raise is a row
            traceback.print_exc()
            row = f" | | | {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"| {name} | {row} |", flush=True)
        for note in notes:
            print(f"    {note}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
