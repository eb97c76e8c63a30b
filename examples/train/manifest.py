"""Writing of manifests and fixtures: exact numbers, readable JSON, ONNX files."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

Json = Any


def numbers(values: Any) -> Json:
    """Nested lists of numbers that read back exactly; floats get their own type's digits."""
    array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim:
        return [numbers(row) for row in array]
    if array.dtype.kind != "f":
        return array.item()
    if not np.isfinite(array):
        raise ValueError(f"numbers: every value must be finite, got {array}")
    if array.dtype == np.float16:
        return float(array)  # exact, and short enough
    # The shortest decimal of the value's own precision, as a double that prints the same digits.
    return float(str(array[()]))


def tensor_record(value: Tensor) -> Json:
    """A tensor as its shape and its flat data."""
    return {"shape": list(value.shape), "data": numbers(value.flatten())}


def dumps(value: Json, indent: str = "") -> str:
    """JSON with objects over several lines and lists of plain values on one."""
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [f"{inner}{json.dumps(key)}: {dumps(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value):
        return "[\n" + ",\n".join(inner + dumps(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(value) + "\n")


def export(
    path: Path,
    net: nn.Module,
    inputs: Mapping[str, tuple[Tensor, Mapping[int, str]]],
    outputs: Sequence[str],
    external_data: bool = False,
) -> Json:
    """Export to ONNX, compare ONNX Runtime with PyTorch, and return the golden values.

    ``inputs`` maps each input's name to example rows and to the names of its dynamic axes. The
    golden inputs are the example rows, the golden outputs what PyTorch makes of them. With
    ``external_data``, the exporter's default, the weights lie beside the graph in ``PATH.data``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    net.eval()
    args = tuple(value for value, _ in inputs.values())
    axes: Any = tuple(
        {axis: torch.export.Dim(symbol) for axis, symbol in dims.items()}
        for _, dims in inputs.values()
    )
    parameters = inspect.signature(net.forward).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        axes = (axes,)
    program = torch.onnx.export(
        net,
        args,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=axes,
        verbose=False,
    )
    assert program is not None
    # The exporter notes the stack trace of every node: paths of this machine, not of the model.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.save(str(path), external_data=external_data)
    with torch.no_grad():
        expected = net(*args)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    feeds = {name: value.numpy() for name, (value, _) in inputs.items()}
    actual = session(path).run(list(outputs), feeds)
    tolerance = 1e-5 if expected[0].dtype == torch.float32 else 2e-3
    for name, want, got in zip(outputs, expected, actual, strict=True):
        difference = float(np.abs(want.numpy().astype(float) - got.astype(float)).max())
        if not difference <= tolerance * max(1.0, float(want.abs().max())):
            raise AssertionError(f"export: {path.name} {name} differs by {difference}")
    return {
        "inputs": {name: tensor_record(value) for name, (value, _) in inputs.items()},
        "outputs": {
            name: tensor_record(value) for name, value in zip(outputs, expected, strict=True)
        },
    }


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
