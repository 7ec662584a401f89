"""Writes a network as one C99 file and a header without dependencies, and compiles it.

The compiler is $CC, or else cc.
"""

import dataclasses
import itertools
import json
import math
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import keras
import numpy as np

from lottery_tf.errors import InputError
from lottery_tf.export import signatures
from lottery_tf.export.c_layers import refused, write_layers
from lottery_tf.export.c_source import C_TYPES, Buffer, NotInC, Source, Step, Tensor
from lottery_tf.export.formats import Options, compiler
from lottery_tf.export.keras_file import of_keras
from lottery_tf.export.numpy_recipe import HELPERS
from lottery_tf.export.runner import Call
from lottery_tf.plots import Row
from lottery_tf.structure.graph import graph_of
from lottery_tf.training import environment

# Names that a parameter of the function cannot have.
RESERVED = """
auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while class new delete template this operator private public protected namespace using
count file arguments largest i main read scratch model_run model_batch box windows value x y
checked expf tanhf erff log1pf fabsf WIDTH TAIL INFINITY EOF FILE
"""
FLAGS = ["-std=c99", "-O3", "-ffp-contract=fast"]
INT8_FLAGS = ["-std=c99", "-O3", "-ffp-contract=off"]  # every compiler gives the same bits
NATIVE = "-march=native"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
HEADER = """\
/* {about} Written by lottery_tf. */
#ifndef LOTTERY_TF_MODEL_H
#define LOTTERY_TF_MODEL_H

#include <stdint.h>

#define MODEL_SCRATCH {scratch} /* bytes of static memory; so one call at a time */
{sizes}
#ifdef __cplusplus
extern "C" {{
#endif

/* Compute the outputs of one example. */
void model_run({one});

/* Compute those of `count` examples, one after the other. */
void model_batch(long count, {many});

#ifdef __cplusplus
}}
#endif

#endif
"""
SOURCE = """\
/* {about} Written by lottery_tf.
 *
 * cc {flags} -c model.c
 */
#include "model.h"
{math}
{structs}
{data}{scratch}
{functions}
void model_run({one})
{{
{body}
}}

void model_batch(long count, {many})
{{
    for (; count > 0; count--) {{
        model_run({given});
{advance}
    }}
}}

#ifdef LOTTERY_TF_MAIN
/* Reads a file of examples, as raw numbers, and prints a line for each: the place of the largest
 * output, and the outputs. */
#include <stdio.h>

{mains}
int main(int count, char **arguments)
{{
    FILE *file;
    size_t read; /* numbers of an example */
    if (count != 2 || !(file = fopen(arguments[1], "rb"))) {{
        fprintf(stderr, "usage: %s FILE of {unit}\\n", arguments[0]);
        return 1;
    }}
    while ({reading}) {{
        int i, largest = 0;
        model_run({names});
        for (i = 1; i < {first_size}; i++)
            if ({first}[i] > {first}[largest])
                largest = i;
        printf("%d", largest);
{printing}
        printf("\\n");
    }}
    fclose(file);
    if (read) {{
        fprintf(stderr, "%s: expected {unit} for each example. The last one is shorter.\\n",
                arguments[1]);
        return 1;
    }}
    return 0;
}}
#endif
"""
ABOUT = "The network from its inputs to its outputs, written by lottery_tf."
INT8_ABOUT = (
    f"{ABOUT} Its products have int8 weights with a scale for each output, uint8 inputs with a "
    "calibrated scale, and sums of 32 bits."
)
README = """\
# {name} in C

{about} `model.c` and `model.h` need a C99 compiler and its math library, and nothing else:

    cc {flags} -c model.c

- takes {inputs}
- gives {outputs}
- {scratch:,} bytes of static memory, no malloc; one call at a time

```c
#include "model.h"

model_run({names});
```

Try it on a file of examples, whose numbers follow one another as they lie in memory:

    cc {flags} -DLOTTERY_TF_MAIN model.c -lm -o model
    ./model examples.bin

prints a line for each: the place of the largest number of {first}, and the outputs.

From Python, after `cc {flags} -shared -fPIC model.c -lm -o model.so`:

```python
import ctypes

import numpy as np

library = ctypes.CDLL("./model.so")


{checked}

def run({arguments}):
    count = len({first_input})
    given = [{given}]
    found = [{found}]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in given + found]
    library.model_batch(ctypes.c_long(count), *pointers)
    return found  # {outputs_named}
```
"""


def write(model: keras.Model, directory: pathlib.Path, options: Options) -> Row:
    """Write model.c, model.h and a README.md; return the compiler, its flags and sizes."""
    model = of_keras(model, options)
    texts, facts = write_source(model, options)
    for name, text in texts.items():
        (directory / name).write_text(text, "utf-8")
    signatures.write_assets(directory, options)
    flags = compiling_flags(options)
    (directory / "model.json").write_text(json.dumps(facts | {"flags": flags}, indent=1) + "\n")
    return {"compiled": {"scratch": facts["scratch"], **compiled(directory, flags)}}


def load(directory: str) -> Call:
    """Compile the file and return its function. It runs where this package cannot be imported."""
    import ctypes
    import json
    import os
    import shlex
    import subprocess
    import tempfile

    import numpy as np

    with open(f"{directory}/model.json", encoding="utf-8") as file:
        facts = json.load(file)
    with tempfile.TemporaryDirectory() as place:
        library = f"{place}/model.so"
        command = [*shlex.split(os.environ.get("CC") or "cc"), *facts["flags"]]
        command += ["-shared", "-fPIC", f"{directory}/model.c", "-lm", "-o", library]
        subprocess.run(command, check=True)
        batch = ctypes.CDLL(library).model_batch
    batch.restype = None

    def call(inputs):  # type: ignore[no-untyped-def]
        given = [np.ascontiguousarray(inputs[one["name"]], one["dtype"]) for one in facts["inputs"]]
        found = {
            one["name"]: np.empty((len(given[0]), *one["shape"]), np.float32)
            for one in facts["outputs"]
        }
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*given, *found.values())]
        batch(ctypes.c_long(len(given[0])), *pointers)
        return found

    return call


def compiling_flags(options: Options) -> list[str]:
    """Return the flags that make the file fast on this machine."""
    *flags, last = _flags(options)
    with tempfile.TemporaryDirectory() as place:
        empty = pathlib.Path(place, "empty.c")
        empty.write_text("int empty;\n")
        command = [*compiler(), NATIVE, "-c", str(empty), "-o", f"{place}/empty.o"]
        native = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return [*flags, last] if native else flags


def _flags(options: Options) -> list[str]:
    """Return the flags to compile a file with; not every compiler has the last one."""
    return [*(INT8_FLAGS if options.quantize == "int8" else FLAGS), NATIVE]


def compiled(directory: pathlib.Path, flags: list[str]) -> Row:
    """Compile a file, warnings being errors; return compiler, flags, processor and sizes.

    Raises:
        InputError: the compiler refuses the file; the message quotes it.
    """
    with tempfile.TemporaryDirectory() as place:
        for define, out in (("-DLOTTERY_TF_MAIN", "main.o"), ("-DNDEBUG", "model.o")):
            command = [*compiler(), *flags, *WARNINGS, define, "-c", str(directory / "model.c")]
            done = subprocess.run(
                [*command, "-o", f"{place}/{out}"], capture_output=True, text=True
            )
            if done.returncode:
                words = " ".join(done.stderr.split())[:300]
                raise InputError(f"--format=c: {shlex.join(compiler())} refuses model.c: {words}")
        row: Row = {"text": None, "data": None}
        if shutil.which("size"):
            listed = subprocess.run(["size", f"{place}/model.o"], capture_output=True, text=True)
            text, data, *_ = listed.stdout.splitlines()[1].split()
            row = {"text": int(text), "data": int(data)}
    version = subprocess.run([*compiler(), "--version"], capture_output=True, text=True).stdout
    return {
        "compiler": shlex.join(compiler()),
        "version": version.partition("\n")[0],
        "flags": " ".join([*flags, *WARNINGS]),
        "cpu": environment.machine(),
        **row,
    }


@dataclasses.dataclass(frozen=True)
class Argument:
    """An input or output of the function."""

    name: str  # in the network
    argument: str  # in C
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def facts(self) -> Row:
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape}

    @property
    def checked(self) -> str:
        """The call of `checked` in Python, on as many examples as there are."""
        return f"checked({self.name!r}, {self.argument}, {self.dtype!r}, {(None, *self.shape)})"

    @property
    def words(self) -> str:
        sides = " x ".join(map(str, self.shape)) or "1"
        return f"`{self.argument}`, {self.dtype} {sides}"


def write_source(model: keras.Model, options: Options) -> tuple[dict[str, str], Row]:
    """Return {file: text} for a model of Keras's layers; and its inputs, outputs and memory.

    Raises:
        InputError: a part of the model cannot be written in C; the message names it.
    """
    graph, int8 = graph_of(model), options.quantize == "int8"
    source = Source(set(RESERVED.split()), dense=options.dense, int8=int8)
    inputs = []
    for tensor in graph.model.inputs:
        dtype, shape = keras.backend.standardize_dtype(tensor.dtype), tensor.shape[1:]
        if dtype not in C_TYPES or None in shape:
            raise InputError(
                f"--format=c: expected inputs of one shape and {', '.join(C_TYPES)}. Received: "
                f"{tensor.name}, {dtype} {tuple(shape)}"
            )
        inputs.append(Argument(tensor.name, source.free(tensor.name), dtype, tuple(shape)))
    given = [
        Tensor(
            Buffer(one.size, C_TYPES[one.dtype], one.argument),
            np.arange(one.size).reshape(one.shape),
        )
        for one in inputs
    ]
    results = write_layers(source, graph, given, options.calibration)
    names = ["logits"] if options.images else signatures.output_names(model)
    if options.images:
        results[0].step = None
        source.current = "probabilities: Softmax"
        results.append(source.softmax(results[0], -1))
        names.append("probabilities")
    outputs = []
    for name, tensor in zip(names, results, strict=True):
        if tensor.places.ndim > 3:
            raise InputError(f"--format=c: the output {name} has {tensor.places.ndim} axes.")
        if not tensor.whole or tensor.buffer.name:
            source.current = f"{name}: copy"
            tensor = source.in_order(tensor)
        argument = source.free(name)
        tensor.buffer.name = argument
        outputs.append(Argument(name, argument, "float32", tensor.places.shape))
    return _texts(model, source, inputs, outputs, _flags(options))


def _texts(
    model: keras.Model,
    source: Source,
    inputs: list[Argument],
    outputs: list[Argument],
    flags: list[str],
) -> tuple[dict[str, str], Row]:
    """Return the files of a network whose steps are complete, and the facts about it."""
    body = []
    floats = place(source.steps)
    for step in source.steps:
        source.current = step.about
        try:
            lines = source.lines(step)
        except NotInC as reason:
            name, _, kind = step.about.partition(": ")
            raise refused(name, kind.partition(",")[0], reason) from None
        named = {"y": _expression(step.out)}
        reads = [_expression(buffer) for buffer in step.reads]
        body.append(f"/* {step.about.replace('*/', '* /')} */")
        body += [line.format(*reads, **named) for line in lines]
    called, both = "\n".join(body), [*inputs, *outputs]
    types = {one.argument: C_TYPES[one.dtype] for one in both}
    constant = ["const "] * len(inputs) + [""] * len(outputs)
    one = ", ".join(
        f"{const}{types[arg.argument]} {arg.argument}[{arg.size}]"
        for const, arg in zip(constant, both, strict=True)
    )
    many = ", ".join(
        f"{const}{types[arg.argument]} *{arg.argument}"
        for const, arg in zip(constant, both, strict=True)
    )
    names = ", ".join(arg.argument for arg in both)
    about = f"{model.name}: a network as C99."
    functions = "\n".join(text for _, text in source.functions.values())
    first = outputs[0]
    totals = itertools.accumulate(one.size for one in inputs)
    reading = " && ".join(
        f"(read {sign} fread({one.argument}, sizeof *{one.argument}, {one.size}, file)) == {total}"
        for sign, one, total in zip(["=", *["+="] * len(inputs)], inputs, totals, strict=False)
    )
    printing = "\n".join(
        f'        for (i = 0; i < {one.size}; i++)\n            printf(" %.9g", {one.argument}[i]);'
        for one in outputs
    )
    c = SOURCE.format(
        flags=" ".join(flags),
        about=about.replace("*/", "* /"),
        math="#include <math.h>\n" if re.search(r"f\(|INFINITY", functions + called) else "",
        structs="\n".join(source.structs.values()),
        data="\n".join(source.data),
        scratch=f"\nstatic float scratch[{floats}];\n" if floats else "",
        functions=functions,
        one=one,
        many=many,
        body="\n".join(f"    {line}" for line in body),
        given=names,
        names=names,
        advance="\n".join(f"        {arg.argument} += {arg.size};" for arg in both),
        mains="\n".join(
            f"static {types[arg.argument]} {arg.argument}[{arg.size}];" for arg in both
        ),
        unit=" and ".join(f"{arg.dtype} {arg.argument}[{arg.size}]" for arg in inputs),
        reading=reading,
        first=first.argument,
        first_size=first.size,
        printing=printing,
    )
    sizes = "".join(f"#define MODEL_{arg.argument.upper()} {arg.size}\n" for arg in both)
    h = HEADER.format(
        about=about.replace("*/", "* /"), scratch=4 * floats, sizes=sizes, one=one, many=many
    )
    readme = README.format(
        name=model.name,
        about=INT8_ABOUT if source.int8 else ABOUT,
        flags=" ".join(flags),
        inputs=", ".join(arg.words for arg in inputs),
        outputs=", ".join(arg.words for arg in outputs),
        scratch=4 * floats,
        names=names,
        first=f"`{first.argument}`",
        arguments=", ".join(arg.argument for arg in inputs),
        first_input=inputs[0].argument,
        checked=HELPERS["checked"],
        given=", ".join(f"np.ascontiguousarray({arg.checked})" for arg in inputs),
        found=", ".join(
            f"np.empty(({', '.join(map(str, ('count', *arg.shape)))},), np.float32)"
            for arg in outputs
        ),
        outputs_named=", ".join(arg.argument for arg in outputs),
    )
    facts = {
        "inputs": [arg.facts for arg in inputs],
        "outputs": [arg.facts for arg in outputs],
        "scratch": 4 * floats,
    }
    return {"model.c": c, "model.h": h, "README.md": readme}, facts


def _expression(buffer: Buffer) -> str:
    """Return the address of a buffer in C."""
    if buffer.name:
        return buffer.name
    place = f"scratch + {buffer.offset}" if buffer.offset else "scratch"
    return place if buffer.type == "float" else f"({buffer.type} *)({place})"


def place(steps: list[Step]) -> int:
    """Assign each buffer a place in the scratch array; return the array's number of floats.

    Buffers that are in use at the same time do not overlap. The largest are placed first.
    """
    uses: dict[int, list[int]] = {}
    buffers: dict[int, Buffer] = {}
    for index, step in enumerate(steps):
        for buffer in (step.out, *step.reads):
            if not buffer.name:
                buffers[id(buffer)] = buffer
                uses.setdefault(id(buffer), []).append(index)
    placed: list[Buffer] = []
    for key, buffer in sorted(buffers.items(), key=lambda pair: -pair[1].floats):
        buffer.first, buffer.last = uses[key][0], uses[key][-1]
        others = [one for one in placed if one.first <= buffer.last and buffer.first <= one.last]
        buffer.offset = 0
        for other in sorted(others, key=lambda one: one.offset):
            if other.offset >= buffer.offset + buffer.floats:
                break
            buffer.offset = max(buffer.offset, _aligned(other.offset + other.floats))
        placed.append(buffer)
    return max((buffer.offset + buffer.floats for buffer in placed), default=0)


def _aligned(floats: int) -> int:
    return -(-floats // 16) * 16
