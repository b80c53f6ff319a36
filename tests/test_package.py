"""The package as a whole: what it imports, which way imports point, its names, signatures, docstrings and files."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fastpool

PACKAGE = Path(fastpool.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
#: Names of modules, without that of the package ("" is the package itself) -> file.
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: What a module, or all of a folder, may import of the package. Nothing else is allowed; who is not here fails a test.
FOUNDATION = {"geometry", "dtypes"}
POOLINGS = {"max_pooling", "sum_pooling", "adaptive", "global_pooling", "subsampling"}
RARER = {"unpooling", "median", "stochastic", "fractional", "blur", "blocks", "shuffle"}
PUBLIC = POOLINGS | RARER | {"convolution", "transposed", "runtime"}
MAY_IMPORT = {
    "geometry": set(),
    "dtypes": set(),
    "memo": set(),
    "oracle": set(),
    "oracle_extras": {"oracle"},
    "arrays": {"dtypes"},
    "validation": FOUNDATION,
    "forks": set(),
    "machine": {"forks"},
    "routines": {"dtypes", "machine"},
    "kernels": {"dtypes", "forks", "machine", "routines"},
    "workers": {"arrays", "machine", "routines"},
    "runtime": {"", "forks", "kernels", "machine", "routines", "validation", "workers"},
    "plans": FOUNDATION | {"arrays", "machine", "routines", "runtime"},
    "layer": FOUNDATION | {"arrays", "memo", "plans", "runtime", "validation"},
    "units": set(),
    "reasons": FOUNDATION | {"plans", "routines", "units"},
    "explain": FOUNDATION | {"layer", "plans", "reasons", "runtime", "units", "validation"},
    "convolution": FOUNDATION | {"arrays", "explain", "layer", "memo", "plans", "validation"},
    "transposed_layer": FOUNDATION | {"arrays", "memo", "plans", "runtime", "validation"},
    "explain_transposed": FOUNDATION
    | {"explain", "plans", "reasons", "runtime", "transposed_layer", "units", "validation"},
    "transposed": FOUNDATION | {"arrays", "explain", "explain_transposed", "layer", "transposed_layer", "validation"},
    "pooling": FOUNDATION | {"arrays", "memo", "plans", "runtime", "validation"},
    "max_pooling": {"pooling", "validation"},
    "sum_pooling": {"geometry", "plans", "pooling", "validation"},
    "adaptive": {"plans", "pooling", "validation"},
    "global_pooling": {"adaptive", "pooling", "sum_pooling"},
    "subsampling": {"dtypes", "pooling", "validation"},
    **{name: FOUNDATION | {"arrays", "plans", "pooling", "runtime", "validation"} for name in RARER},
    "blocks": FOUNDATION | {"median", "pooling", "validation"},
    "shuffle": {"validation"},
    "": PUBLIC | {"forks"},
    "measuring": {"", "dtypes", "plans", "routines"},
    "onnx": FOUNDATION
    | PUBLIC
    | {"", "arrays", "explain", "layer", "plans", "pooling", "transposed_layer", "units", "validation"},
    "cli": {"", "measuring", "onnx", "oracle", "units"} | PUBLIC,
    "__main__": {"cli"},
}
#: Folders and modules -> packages outside the standard library that they may import.
LIBRARIES = {"geometry": set(), "forks": set(), "memo": set(), "units": set(), "": set(), "__main__": set()}
LIBRARIES |= {"oracle": {"numpy"}, "oracle_extras": {"numpy"}}
#: Those of the extras, imported where they are used.
EXTRAS = {
    "cli": {"matplotlib", "PIL", "rich"},
    "measuring": {"matplotlib"},
    "onnx": {"google", "matplotlib", "onnx"},
}
#: Names by which Numba compiles, which one file may use.
COMPILERS = {
    "_FunctionCompiler",
    "njit",
    "jit",
    "prange",
    "cfunc",
    "CFunc",
    "vectorize",
    "guvectorize",
    "generated_jit",
    "stencil",
    "pndindex",
}
COMPILING = {"kernels._jit"}


def imports_of(path):
    """Every import of a file, wherever in it: full names, ``from a import b`` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def component(module):
    """Folder of the package that a module is in, or the module itself."""
    return module.split(".")[0]


def imported_modules(name):
    """Modules of the package that a module imports."""
    found = set()
    for full in imports_of(FILES[name]):
        if full.split(".")[0] == "fastpool":
            parts = full.split(".")[1:]
            while parts and ".".join(parts) not in FILES:  # the last part may be a name in a module
                parts.pop()
            found.add(".".join(parts))
    return found


# ------------------------------------------------------------------------------------------------------------- imports


def loaded_by(statement):
    """Modules that a fresh interpreter has after a statement, and had not before it."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_no_library():
    loaded = {name.split(".")[0] for name in loaded_by("import fastpool; dir(fastpool); fastpool.__version__")}
    assert loaded & {"numpy", "numba", "llvmlite", "scipy", "matplotlib", "PIL", "rich", "onnx", "torch"} == set()
    assert "fastpool" in loaded


def test_the_oracle_and_the_command_load_no_compiler():
    for statement in ("import fastpool.oracle", "import fastpool.cli"):
        loaded = loaded_by(statement)
        assert {"numba", "llvmlite", "fastpool.runtime", "fastpool.machine"} & loaded == set()
    assert {name.split(".")[0] for name in loaded_by("import fastpool.cli")} & EXTRAS["cli"] == set()


def test_calls_load_no_extras_and_no_other_kernels():
    loaded = loaded_by("import numpy as np, fastpool; fastpool.max_pool2d(np.ones((1, 4, 4)), 2)")
    assert "fastpool.runtime" in loaded
    assert {name.split(".")[0] for name in loaded} & {"matplotlib", "PIL", "rich", "onnx", "torch"} == set()
    assert "fastpool.sum_pooling" not in loaded
    assert {"fastpool.convolution", "fastpool.cli", "fastpool.oracle", "fastpool.kernels.winograd"} & loaded == set()


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    imported = {component(module) for module in imported_modules(name)}
    allowed = MAY_IMPORT[component(name)] | {component(name)} - {""}
    assert imported <= allowed, f"{name or 'the package'} imports {sorted(imported - allowed)}"


def test_no_module_imports_itself_in_a_circle():
    found = {name: imported_modules(name) - {name} for name in FILES}
    # The package names its modules for type checkers only, and runtime asks it for the version.
    found[""] = set()
    done, left = set(), set(found)
    while ready := {name for name in left if found[name] <= done}:
        done |= ready
        left -= ready
    assert not left, f"a circle among {sorted(left)}"


@pytest.mark.parametrize("name", FILES)
def test_libraries_are_numpy_and_numba_only(name):
    part = component(name)
    roots = {full.split(".")[0] for full in imports_of(FILES[name])} - set(sys.stdlib_module_names) - {"fastpool"}
    allowed = LIBRARIES.get(part, {"numpy", "numba", "llvmlite"}) | EXTRAS.get(part, set())
    assert roots <= allowed, f"{name or 'the package'} imports {sorted(roots - allowed)}"
    if part not in ("kernels", "runtime"):
        assert roots & {"numba", "llvmlite"} == set(), f"{name} is not a kernel"


def test_declared_dependencies_are_numpy_and_numba():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]} == {"numpy", "numba"}


@pytest.mark.parametrize("name", [name for name in FILES if name not in COMPILING])
def test_numba_compiles_in_one_file_only(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names & COMPILERS == set()


def test_that_file_exists():
    assert set(FILES) >= COMPILING


# -------------------------------------------------------------------------------------- names, signatures, docstrings

REQUIRED = inspect.Parameter.empty
WINDOWS = {"kernel_size": REQUIRED, "stride": None, "padding": 0}
MEANS = {**WINDOWS, "ceil_mode": False, "count_include_pad": True}


def of_each_rank(**functions):
    """Give the functions of one, two and three dimensions that have a name and parameters in common."""
    return {f"{name}{n}d": parameters for name, parameters in functions.items() for n in (1, 2, 3)}


#: PyTorch's documented signatures of `torch.nn.functional`, without the first argument, which is `input` there.
PYTORCH = {
    **of_each_rank(
        conv={"weight": REQUIRED, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1},
        conv_transpose={
            **{"weight": REQUIRED, "bias": None, "stride": 1, "padding": 0},
            **{"output_padding": 0, "groups": 1, "dilation": 1},
        },
    ),
    **of_each_rank(
        max_pool={**WINDOWS, "dilation": 1, "ceil_mode": False, "return_indices": False},
        lp_pool={"norm_type": REQUIRED, "kernel_size": REQUIRED, "stride": None, "ceil_mode": False},
        adaptive_max_pool={"output_size": REQUIRED, "return_indices": False},
        adaptive_avg_pool={"output_size": REQUIRED},
        max_unpool={"indices": REQUIRED, **WINDOWS, "output_size": None},
    ),
    "pixel_shuffle": {"upscale_factor": REQUIRED},
    "pixel_unshuffle": {"downscale_factor": REQUIRED},
    "avg_pool1d": MEANS,
    "avg_pool2d": {**MEANS, "divisor_override": None},
    "avg_pool3d": {**MEANS, "divisor_override": None},
}
#: The other functions, which PyTorch has not.
OURS = of_each_rank(
    subsample={"weight": REQUIRED, "bias": REQUIRED, **WINDOWS, "ceil_mode": False},
    min_pool=PYTORCH["max_pool2d"],
    sum_pool={**WINDOWS, "ceil_mode": False},
    global_avg_pool={},
    global_max_pool={},
    global_lp_pool={"norm_type": REQUIRED},
    median_pool={**WINDOWS, "dilation": 1, "ceil_mode": False},
) | {
    # In PyTorch two functions each, of other signatures.
    **{
        f"fractional_max_pool{n}d": {
            **{"kernel_size": REQUIRED, "output_size": None, "output_ratio": None, "return_indices": False},
        }
        for n in (2, 3)
    },
    "stochastic_pool2d": {**WINDOWS, "dilation": 1, "ceil_mode": False, "training": False},
    "blur_pool2d": {"filter_size": 4, "stride": 2},
    "block_reduce": {"block_size": REQUIRED, "reduction": "max"},
}
#: What comes after them, by keyword only.
KEYWORDS = {
    "conv2d": {"padding_mode": "zeros", "activation": None, "residual": None, "out": None},
    **{name: {"out": None} for name in PYTORCH | OURS if "_pool" in name or "subsample" in name},
    **{f"fractional_max_pool{n}d": {"random_samples": None, "seed": None} for n in (2, 3)},
    "stochastic_pool2d": {"seed": None, "out": None},
    "blur_pool2d": {"padding_mode": "reflect", "out": None},
    **of_each_rank(
        avg_pool={"dilation": 1, "out": None},
        sum_pool={"dilation": 1, "out": None},
        lp_pool={"padding": 0, "dilation": 1, "out": None},
    ),
    "avg_pool1d": {"divisor_override": None, "dilation": 1, "out": None},
}


def parameters(function, *kinds):
    """Names and defaults of the parameters of these kinds."""
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind in kinds}


@pytest.mark.parametrize("name", [*PYTORCH, *OURS])
def test_signatures_are_those_of_pytorch(name):
    function = getattr(fastpool, name)
    positional = parameters(function, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert list(positional.items()) == [("x", REQUIRED), *(PYTORCH | OURS)[name].items()]  # the order counts
    keywords = parameters(function, inspect.Parameter.KEYWORD_ONLY)
    assert REQUIRED not in keywords.values()
    assert keywords.items() >= KEYWORDS.get(name, {}).items()
    others = set(inspect.signature(function).parameters) - set(positional) - set(keywords)
    assert not others, "no *args, no **kwargs"


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("name", "kind"), [("conv", "Conv"), ("conv_transpose", "ConvTranspose")])
def test_prepared_convolutions_take_the_arguments_of_the_functions(name, kind, axes):
    function = inspect.signature(getattr(fastpool, f"{name}{axes}d")).parameters
    prepared = getattr(fastpool, f"{kind}{axes}d")
    made, called = inspect.signature(prepared).parameters, inspect.signature(prepared.__call__).parameters
    at_call = [name for name in ("x", "residual", "out") if name in function]
    assert list(made) == [name for name in function if name not in at_call]
    assert list(called) == ["self", *at_call]
    for name, parameter in [*made.items(), *list(called.items())[1:]]:
        assert (parameter.default, parameter.kind) == (function[name].default, function[name].kind), name


def test_pytorch_agrees_where_it_tells():
    # What is written in C has no signature to look at; its documentation is what the table holds.
    functional = pytest.importorskip("torch.nn.functional")
    looked_at = 0
    for name, wanted in PYTORCH.items():
        try:
            found = inspect.signature(getattr(functional, name)).parameters
        except (TypeError, ValueError):
            continue
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in found.values()):
            continue  # a dispatcher between two functions
        assert list(found)[1:] == list(wanted), name
        looked_at += 1
    assert looked_at


def test_all_names_resolve():
    assert fastpool.__all__ == sorted(fastpool.__all__)
    assert len(set(fastpool.__all__)) == len(fastpool.__all__)
    for name in fastpool.__all__:
        value = getattr(fastpool, name)
        assert value.__name__ == name
        assert value.__module__.startswith("fastpool.")
    assert set(dir(fastpool)) >= set(fastpool.__all__)
    star = {}
    exec("from fastpool import *", star)
    assert set(star) - {"__builtins__"} == set(fastpool.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="max_pool9d"):
        fastpool.max_pool9d  # noqa: B018
    assert not hasattr(fastpool, "conv2D")


def sections(text):
    """Numpydoc sections of a docstring: title -> text."""
    parts = re.split(r"^(\S[^\n]*)\n-{3,}\n", inspect.cleandoc(text), flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described(section):
    """Names that a section of parameters describes."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.strip().lstrip("*") for line in lines for name in line.split(" : ")[0].split(",")]


@pytest.mark.parametrize("name", sorted(fastpool.__all__))
def test_docstrings_are_numpydoc(name):
    value = getattr(fastpool, name)
    assert value.__doc__, "no docstring"
    found = sections(value.__doc__)
    summary = found[""].splitlines()[0]
    assert re.fullmatch(r"[A-Z`].*[.;:)]", summary), summary
    arguments = [parameter for parameter in inspect.signature(value).parameters if parameter != "self"]
    if arguments:
        assert sorted(described(found["Parameters"])) == sorted(arguments), "parameters that are not those described"
        for parameter in described(found["Parameters"]):
            assert re.fullmatch(r"\w+", parameter)
    if not isinstance(value, type) and name not in ("set_num_threads", "threads"):  # which return nothing to describe
        assert found["Returns"].strip()
    if "weight" in arguments or "x" in arguments:
        assert "TypeError, ValueError" in found["Raises"]
    assert ">>> import fastpool\n" in found["Examples"]
    assert f"fastpool.{name}(" in found["Examples"], "the example does not show the function"


@pytest.mark.parametrize("name", FILES)
def test_every_module_has_a_docstring(name):
    text = ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8")))
    assert text
    assert text.splitlines()[0].endswith((".", ":"))


# --------------------------------------------------------------------------------------------------------------- files


def test_the_version_is_that_of_the_project():
    assert tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"] == fastpool.__version__
    assert fastpool.info()["version"] == fastpool.__version__


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()
    wheel = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["fastpool"]  # with all files in it, py.typed too
    assert not {"exclude", "include", "only-include"} & set(wheel)


def test_files_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_info_describes_machine_and_package():
    known = fastpool.info()
    texts = ("version", "python", "numpy", "numba", "llvmlite", "cpu", "instructions")
    assert all(isinstance(known[name], str) and known[name] for name in texts)
    assert known["vector_bits"] in (128, 256, 512)
    assert known["registers"] in (16, 32)
    assert isinstance(known["fma"], bool)
    assert 1 <= known["threads"] <= known["max_threads"]
    assert known["cache"] is None or Path(known["cache"]).is_dir()
    documented = set(re.findall(r"``(\w+)``", sections(fastpool.info.__doc__)["Returns"]))
    assert documented == set(known)
