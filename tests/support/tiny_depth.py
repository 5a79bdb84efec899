"""Depth networks of others, tiny and with random weights: folders of the transformers library, made offline."""

import json
from pathlib import Path
from typing import Any

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

CONFIG = {"model_type": "depth_anything", "backbone_config": {"model_type": "dinov2", "patch_size": 14}}


def processor(height: int, width: int, **more: Any) -> dict[str, Any]:
    """What a `preprocessor_config.json` of Depth Anything says, at another size."""
    size = {"size": {"height": height, "width": width}, "do_rescale": True, "do_normalize": True, "resample": 3}
    return {**size, **IMAGENET, "keep_aspect_ratio": True, "ensure_multiple_of": 14, **more}


def light_folder(folder: Path, *, seed: int = 0, **more: Any) -> Path:
    """A folder that looks like one of Depth Anything, with a few bytes for weights: nothing can run it."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor(518, 518, **more)))
    save_file({"weight": np.random.default_rng(seed).random(8, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def depth_anything(folder: Path, *, seed: int = 0, size: tuple[int, int] = (70, 70)) -> Path:
    """Depth Anything: DINOv2 with patches of 14 pixels, a position embedding for 4×4 patches, and a DPT head."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    stages: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    backbone = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        reshape_hidden_states=False, apply_layernorm=True, **stages,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, patch_size=14, neck_hidden_sizes=[8, 16, 32, 32],
        fusion_hidden_size=16, head_hidden_size=8,
    )  # fmt: skip
    return _saved(DepthAnythingForDepthEstimation, config, folder, seed, processor(*size))


def dpt(folder: Path, *, seed: int = 0) -> Path:
    """DPT with its own vision transformer: patches of 16 pixels, squares only."""
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 32, 32], fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False,
    )  # fmt: skip
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "keep_aspect_ratio": False}
    return _saved(DPTForDepthEstimation, config, folder, seed, processor(64, 64, **half))


def depth_pro(folder: Path, *, seed: int = 0) -> Path:
    """Depth Pro: overlapping patches of a pyramid through one DINOv2, the whole picture through another."""
    from transformers import DepthProConfig, DepthProForDepthEstimation

    backbone = {
        "model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    config = DepthProConfig(
        patch_size=32, image_model_config=dict(backbone), patch_model_config=dict(backbone),
        fov_model_config=dict(backbone), fusion_hidden_size=16, intermediate_hook_ids=[3, 1],
        intermediate_feature_dims=[8, 8], scaled_images_feature_dims=[16, 16, 8], merge_padding_value=1,
    )  # fmt: skip
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "keep_aspect_ratio": False}
    return _saved(DepthProForDepthEstimation, config, folder, seed, processor(128, 128, **half))


def zoedepth(folder: Path, *, seed: int = 0) -> Path:
    """ZoeDepth: BEiT with relative position biases, a DPT head, and bins that are attracted to metric depths."""
    from transformers import ZoeDepthConfig, ZoeDepthForDepthEstimation

    backbone = {
        "model_type": "beit", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": 64, "patch_size": 16, "use_relative_position_bias": True,
        "reshape_hidden_states": False, "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip
    config = ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 16, 32, 32], fusion_hidden_size=16, num_relative_features=8,
        bottleneck_features=16, bin_embedding_dim=8, num_attractors=[4, 4, 2, 1], use_bias_in_fusion_residual=False,
    )  # fmt: skip
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "ensure_multiple_of": 32}
    return _saved(ZoeDepthForDepthEstimation, config, folder, seed, processor(64, 96, **half))


def _saved(kind: Any, config: Any, folder: Path, seed: int, settings: dict[str, Any]) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(config).eval()
        size = settings["size"]
        _enliven(module, 2 * torch.rand(1, 3, size["height"], size["width"]) - 1)
    module.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _enliven(module: Any, picture: Any) -> None:
    """Scale each layer so that it gives values of a standard deviation of 1.

    The library begins with weights that give almost a constant, in which no mistake would show.
    """
    import torch

    done = set()

    def scale(layer: Any, _inputs: Any, result: Any) -> Any:
        if layer in done:
            return result
        done.add(layer)
        factor = float(result.std())
        layer.weight.div_(factor)
        if layer.bias is not None:
            layer.bias.div_(factor)
        return result / factor

    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [each.register_forward_hook(scale) for each in module.modules() if isinstance(each, kinds)]
    with torch.no_grad():
        module(picture)
        for hook in hooks:
            hook.remove()
        # Most heads end with a rectifier, which would cut half of the values off.
        last = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        assert last.bias is not None
        last.bias.add_(2)
