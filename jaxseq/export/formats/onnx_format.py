"""ONNX: the whole program as a graph of its operators."""

from __future__ import annotations

import numpy as np

from jaxseq.export import kinds, program
from jaxseq.export.formats.base import missing, zeros
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.forecaster import Trained


def takes(run: RestoredRun) -> bool:
    """Return whether runs of this domain have a graph."""
    return kinds.of(run).graph is not None


def files(run: RestoredRun) -> dict[str, bytes]:
    """Return the program as an ONNX model. Raises `UsageError` if onnx is not installed or has no such layer."""
    graph = kinds.of(run).graph
    assert graph is not None, "`takes` says which runs have a graph"
    exported = kinds.program_of(run)
    try:
        from onnx.reference import ReferenceEvaluator
    except ModuleNotFoundError as error:
        raise missing("onnx") from error

    model = graph(run, exported)
    # Its logistic function overflows for large arguments, on the way to the right value.
    with np.errstate(over="ignore"):
        outputs = ReferenceEvaluator(model).run(None, exported.example)
    names = [output.name for output in model.graph.output]
    program.check(exported, dict(zip(names, map(np.asarray, outputs), strict=True)))
    return {f"{exported.result}.onnx": model.SerializeToString()}


def call(run: RestoredRun) -> str:
    """Say how the model is run by onnxruntime."""
    exported = kinds.program_of(run)
    remark = ""
    if isinstance(run, Trained) and run.experiment.head.name == "student-t":
        remark = "\nThe file has the forecast alone: ONNX has no operator for the quantiles of Student's t.\n"
    return f"""
```python
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("{exported.result}.onnx")
names = [output.name for output in session.get_outputs()]
results = dict(zip(names, session.run(None, {zeros(exported)})))
print(results["{exported.result}"])
```
{remark}"""
