"""Times a timm ViT in f16 at batch 1 as a CUDA graph of PyTorch: the rival of `device-run --device cuda --sweep`.

Usage: pytorch_graph.py [TIMM_NAME]. Prints the median of 100 replays by events, without copies of image and result.
"""

import sys

import timm
import torch


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "vit_base_patch16_224"
    model = timm.create_model(name, pretrained=False, num_classes=0).eval().cuda().half()
    image = torch.randn(1, 3, *model.patch_embed.img_size, device="cuda", dtype=torch.half)
    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(5):
                model(image)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(image)
    times = []
    for replay in range(120):
        start, end = torch.cuda.Event(True), torch.cuda.Event(True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if replay >= 20:
            times.append(start.elapsed_time(end))
    print(f"{name}, PyTorch {torch.__version__}: {sorted(times)[50]:.4f} ms")


main()
