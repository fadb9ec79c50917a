"""The rival of the benches: the same forward in PyTorch.

Reads the checkpoint, the number of images and threads, and (MLP, heads) sparsities such as `0/0` or
`0.15/0,0.35/0.2` from the command line, then for every line on stdin runs all images once at each
sparsity and prints the seconds. Pruned weights are cut before; every block loses the same share. Uses PyTorch's fastest parts: fused
attention, inference mode, and the best of the batch sizes that it tries before the first line.
"""

import json
import struct
import sys
import time

import torch
import torch.nn.functional as F


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        start, end = info["data_offsets"]
        values = torch.frombuffer(bytearray(data[start:end]), dtype=types[info["dtype"]])
        tensors[name] = values.reshape(info["shape"]).float()
    return tensors


def cut(weights, head_dim, kept):
    """The weights with the first heads and neurons of each block, as many as `kept` lists."""
    small = dict(weights)
    for block, (heads, neurons) in enumerate(kept):
        name = f"blocks.{block}."
        width = heads * head_dim
        for part in ("weight", "bias"):
            qkv = weights[name + "attn.qkv." + part]
            small[name + "attn.qkv." + part] = torch.cat([third[:width] for third in qkv.chunk(3)]).contiguous()
            small[name + "mlp.fc1." + part] = weights[name + "mlp.fc1." + part][:neurons].contiguous()
        small[name + "attn.proj.weight"] = weights[name + "attn.proj.weight"][:, :width].contiguous()
        small[name + "mlp.fc2.weight"] = weights[name + "mlp.fc2.weight"][:, :neurons].contiguous()
    return small


def forward(weights, pixels, head_dim, depth, patch):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])

    x = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights["cls_token"].expand(x.shape[0], -1, -1), x], dim=1) + weights["pos_embed"]
    for block in range(depth):
        name = f"blocks.{block}"
        b, t, _ = x.shape
        qkv = linear(norm(x, name + ".norm1"), name + ".attn.qkv").reshape(b, t, 3, -1, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, -1)
        x = x + linear(attention, name + ".attn.proj")
        hidden = F.gelu(linear(norm(x, name + ".norm2"), name + ".mlp.fc1"))
        x = x + linear(hidden, name + ".mlp.fc2")
    return norm(x, "norm")[:, 0]


def main():
    path, config_path, images, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    with open(config_path) as file:
        arguments = json.load(file)["model_args"]
    weights = read_safetensors(path)
    size, patch = arguments["img_size"], arguments["patch_size"]
    heads, depth = arguments["num_heads"], arguments["depth"]
    head_dim = arguments["embed_dim"] // heads
    neurons = weights["blocks.0.mlp.fc1.weight"].shape[0]
    models = []
    for pair in sys.argv[5].split(","):
        mlp, attention = (float(share) for share in pair.split("/"))
        kept = round(heads * (1 - attention)), round(neurons * (1 - mlp))
        models.append(cut(weights, head_dim, [kept] * depth))
    pixels = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))

    def run(batch):
        start = time.perf_counter()
        with torch.inference_mode():
            for model in models:
                for part in pixels.split(batch):
                    forward(model, part, head_dim, depth, patch)
        return time.perf_counter() - start

    batches = [batch for batch in (8, 16, 32, 64, 128, 256) if batch <= images]
    best = min(batches, key=lambda batch: min(run(batch) for _ in range(3)))
    print(f"ready: PyTorch {torch.__version__}, {threads} threads, batch {best}", flush=True)
    for _ in sys.stdin:
        print(run(best), flush=True)


if __name__ == "__main__":
    main()
