"""The rivals of the bench `against_onnx_runtime`: physically pruned models in ONNX Runtime and PyTorch.

Reads one request a line from stdin, as JSON, and answers each with one line of JSON:

- `{"load": {...}}` cuts a model down to its rungs and prepares every rung for each batch and number of threads, and
  with `"int8": true` only ONNX Runtime's int8 models, which the engine `onnx-int8` then names;
- `{"check": CELL, "pixels": FILE}` runs the pixels (f32) in both and answers with both image embeddings;
- `{"time": CELL, "engine": "onnx" or "torch", "times": N}` answers with the seconds of each of N passes.

A cell is `[rung, batch, threads]`. ONNX Runtime gets the graph in three spellings: plain operators, its own fused
`Attention`, and its own `MultiHeadAttention`. All go through its whole graph optimisation, with fixed shapes, and for
each batch and number of threads the spelling that is fastest on the dense model is the one that counts. Its threads
spin inside a pass, as they do by default, and stop at its end, so that they do not slow who runs next.
"""

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
except ImportError as error:
    missing = "pip install numpy onnx onnxruntime torch --extra-index-url https://download.pytorch.org/whl/cpu"
    print(f"{error}: {missing}", file=sys.stderr)
    sys.exit(1)

sys.path.append(str(Path(__file__).parents[2] / "host" / "benches"))
import pytorch_forward  # noqa: E402

MICROSOFT = "com.microsoft"
SPELLINGS = ("operators", "Attention", "MultiHeadAttention")


class Graph:
    """A model of plain operators and constants, built from its input on."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, operator, *inputs, outputs=1, domain="", **attributes):
        names = [f"{operator}.{len(self.nodes)}.{output}" for output in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, values):
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def shape(self, *sizes):
        return self.constant(np.array(sizes, dtype=np.int64))


def export(weights, model, kept, batch, spelling):
    """The pruned model as ONNX: `kept` has the heads and neurons of each block."""
    graph = Graph()
    array = lambda name: weights[name].numpy()  # noqa: E731
    width, patch, head_dim = model["embed_dim"], model["patch"], model["head_dim"]
    patches = (model["size"] // patch) ** 2
    tokens = patches + 1

    def norm(x, name):
        scale, bias = graph.constant(array(name + ".weight")), graph.constant(array(name + ".bias"))
        return graph.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-6)

    def linear(x, name):
        product = graph.add("MatMul", x, graph.constant(array(name + ".weight").T))
        return graph.add("Add", product, graph.constant(array(name + ".bias")))

    def attention(x, name, heads):
        attended = heads * head_dim
        if spelling == "Attention":
            weight, bias = graph.constant(array(name + ".weight").T), graph.constant(array(name + ".bias"))
            sizes = [attended] * 3
            return graph.add(
                "Attention", x, weight, bias, domain=MICROSOFT, num_heads=heads, qkv_hidden_sizes=sizes
            )
        thirds = graph.add("Split", linear(x, name), outputs=3, axis=2, num_outputs=3)
        if spelling == "MultiHeadAttention":
            return graph.add("MultiHeadAttention", *thirds, domain=MICROSOFT, num_heads=heads)
        split = graph.shape(batch, tokens, heads, head_dim)
        query, key, value = (graph.add("Reshape", third, split) for third in thirds)
        query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
        key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
        value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
        scale = graph.constant(np.float32(head_dim**-0.5))
        scores = graph.add("Mul", graph.add("MatMul", query, key), scale)
        mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
        mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return graph.add("Reshape", mixed, graph.shape(batch, tokens, attended))

    kernel, bias = graph.constant(array("patch_embed.proj.weight")), graph.constant(array("patch_embed.proj.bias"))
    x = graph.add("Conv", "pixels", kernel, bias, strides=[patch, patch], kernel_shape=[patch, patch])
    x = graph.add("Transpose", graph.add("Reshape", x, graph.shape(batch, width, patches)), perm=[0, 2, 1])
    positions = array("pos_embed")
    first = graph.constant(np.broadcast_to(array("cls_token") + positions[:, :1], (batch, 1, width)))
    x = graph.add("Concat", first, graph.add("Add", x, graph.constant(positions[:, 1:])), axis=1)
    for block, (heads, _) in enumerate(kept):
        name = f"blocks.{block}."
        if heads > 0:
            mixed = attention(norm(x, name + "norm1"), name + "attn.qkv", heads)
            x = graph.add("Add", x, linear(mixed, name + "attn.proj"))
        hidden = graph.add("Gelu", linear(norm(x, name + "norm2"), name + "mlp.fc1"))
        x = graph.add("Add", x, linear(hidden, name + "mlp.fc2"))
    tokens = norm(x, "norm")
    graph.nodes.append(helper.make_node("Gather", [tokens, graph.constant(np.int64(0))], ["pooled"], axis=1))
    size = model["size"]
    built = helper.make_graph(
        graph.nodes,
        "vit",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [batch, width])],
        graph.constants,
    )
    versions = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(built, opset_imports=versions, ir_version=9)


class OnnxForward:
    """One session with its input and output in place."""

    def __init__(self, exported, batch, threads, model):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            onnx.save(exported, path)
            self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.pixels = np.zeros((batch, 3, model["size"], model["size"]), dtype=np.float32)
        self.output = np.zeros((batch, model["embed_dim"]), dtype=np.float32)
        self.binding = self.session.io_binding()
        for bind, name, values in (
            (self.binding.bind_input, "pixels", self.pixels),
            (self.binding.bind_output, "pooled", self.output),
        ):
            bind(name, "cpu", 0, np.float32, values.shape, values.ctypes.data)

    def run(self):
        self.session.run_with_iobinding(self.binding)
        return self.output


class TorchForward:
    """The pruned weights in PyTorch's own operators."""

    def __init__(self, weights, batch, threads, model):
        self.weights, self.threads, self.model = weights, threads, model
        self.pixels = np.zeros((batch, 3, model["size"], model["size"]), dtype=np.float32)
        self.input = torch.from_numpy(self.pixels)

    def run(self):
        torch.set_num_threads(self.threads)
        model = self.model
        with torch.inference_mode():
            return pytorch_forward.forward(
                self.weights, self.input, model["head_dim"], model["depth"], model["patch"]
            ).numpy()


def seconds(forward, times):
    passes = []
    for _ in range(times):
        start = time.perf_counter()
        forward.run()
        passes.append(time.perf_counter() - start)
    return passes


class RandomImages(CalibrationDataReader):
    """What static quantisation takes its ranges from."""

    def __init__(self, batch, model):
        random = np.random.default_rng(1)
        size = (batch, 3, model["size"], model["size"])
        self.left = [{"pixels": random.uniform(-1, 1, size).astype(np.float32)} for _ in range(2)]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantise(exported, way, batch, model):
    """The exported model in int8, as `onnxruntime.quantization` makes it; weights per channel."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ("f32.onnx", "int8.onnx"))
        onnx.save(exported, source)
        # Shapes of its own operators are not inferred.
        options = {"DefaultTensorType": TensorProto.FLOAT}
        if way == "static":
            types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
            images = RandomImages(batch, model)
            operators = ["MatMul", "Conv", "Gemm"]
            quantize_static(
                source, target, images, QuantFormat.QDQ, operators, per_channel=True, extra_options=options, **types
            )
        else:
            quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)
        return onnx.load(target)


INT8_WAYS = (("dynamic", "operators"), ("dynamic", "Attention"), ("static", "operators"))


def load_int8(request):
    """The int8 cells of a model, batch 1 and one number of threads, quantised in the way that is fastest on the dense model."""
    model, cells, ways = request["model"], {}, INT8_WAYS
    (threads,) = request["threads"]
    weights = pytorch_forward.read_safetensors(request["weights"])
    times = {}
    for rung, kept in enumerate(request["rungs"]):
        pruned = pytorch_forward.cut(weights, model["head_dim"], kept)
        candidates = {}
        for way, spelling in ways:
            exported = quantise(export(pruned, model, kept, 1, spelling), way, 1, model)
            candidates[way, spelling] = OnnxForward(exported, 1, threads, model)
        if len(candidates) > 1:
            times = {way: min(seconds(run, 8)[1:]) for way, run in candidates.items()}
            ways = [min(times, key=times.get)]
        cells[rung, 1, threads] = candidates[ways[0]]
    return {"onnx-int8": cells}, {"int8": [[*way, f"{time * 1e3:.2f} ms"] for way, time in times.items()]}


def load(request):
    """All cells of a model."""
    if request.get("int8"):
        return load_int8(request)
    model, onnx_cells, torch_cells, chosen = request["model"], {}, {}, {}
    weights = pytorch_forward.read_safetensors(request["weights"])
    for rung, kept in enumerate(request["rungs"]):
        pruned = pytorch_forward.cut(weights, model["head_dim"], kept)
        for batch in request["batches"]:
            exported = {}
            for threads in request["threads"]:
                cell = (rung, batch, threads)
                candidates = {}
                for spelling in [chosen[batch, threads]] if (batch, threads) in chosen else SPELLINGS:
                    if spelling not in exported:
                        exported[spelling] = export(pruned, model, kept, batch, spelling)
                    candidates[spelling] = OnnxForward(exported[spelling], batch, threads, model)
                if len(candidates) > 1:
                    # The first pass of each warms it.
                    best = {spelling: min(seconds(run, 4)[1:]) for spelling, run in candidates.items()}
                    chosen[batch, threads] = min(best, key=best.get)
                onnx_cells[cell] = candidates[chosen[batch, threads]]
                torch_cells[cell] = TorchForward(pruned, batch, threads, model)
    spellings = [[batch, threads, spelling] for (batch, threads), spelling in chosen.items()]
    return {"onnx": onnx_cells, "torch": torch_cells}, {"spellings": spellings}


def main():
    ort.set_default_logger_severity(3)
    logging.disable(logging.WARNING)
    print(json.dumps({"versions": [ort.__version__, torch.__version__]}), flush=True)
    cells = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            # The last model goes before the next one comes.
            cells = {}
            cells, answer = load(request["load"])
        elif "check" in request:
            pixels = np.fromfile(request["pixels"], dtype=np.float32)
            answer = {}
            for engine, forwards in cells.items():
                forward = forwards[tuple(request["check"])]
                forward.pixels[:] = pixels.reshape(forward.pixels.shape)
                answer[engine] = forward.run().reshape(-1).tolist()
        else:
            answer = {"seconds": seconds(cells[request["engine"]][tuple(request["time"])], request["times"])}
        print(json.dumps(answer), flush=True)


main()
