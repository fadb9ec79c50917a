"""Writes a ViT-B/16 of random weights as timm ships one, and random photographs: enough to time a job or an engine.

Usage: random_vit.py MODEL_FOLDER IMAGE_FOLDER COUNT, with torch, timm, safetensors and pillow.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

NAME = "vit_base_patch16_224"


def weights():
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, value in timm.create_model(NAME, pretrained=False, num_classes=0).state_dict().items():
        if "pos_embed" in name or "cls_token" in name:
            value = torch.randn(value.shape, generator=generator) * 0.3
        elif value.ndim >= 2:
            value = torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5
        elif name.endswith("bias"):
            value = torch.randn(value.shape, generator=generator) * 0.05
        tensors[name] = value.contiguous()
    return tensors


def photograph(folder, number):
    random = numpy.random.default_rng(number)
    colours = Image.fromarray((random.random((12, 16, 3)) * 255).astype("uint8")).resize((500, 375), Image.BICUBIC)
    noisy = numpy.asarray(colours).astype(int) + random.integers(-20, 20, (375, 500, 1))
    Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(f"{folder}/{number:04}.jpg", quality=90)


def main():
    model, images, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.makedirs(model, exist_ok=True)
    os.makedirs(images, exist_ok=True)
    save_file(weights(), f"{model}/model.safetensors")
    preprocessing = {
        "input_size": [3, 224, 224],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "num_classes": 0,
    }
    with open(f"{model}/config.json", "w") as config:
        json.dump({"architecture": NAME, "num_classes": 0, "pretrained_cfg": preprocessing}, config)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda number: photograph(images, number), range(count)))


main()
