"""Makes the peers' environment: a virtual environment and what is compiled from source distributions."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
CXX_FLAGS = ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-w"]


class PrepareError(Exception):
    """What could not be had, in one sentence."""


def cache_dir() -> pathlib.Path:
    default = pathlib.Path.home() / ".cache" / "strata" / "peers"
    return pathlib.Path(os.environ.get("STRATA_PEERS", default))


def _run(command: list, what: str) -> str:
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise PrepareError(f"{what} failed: {' '.join(last)}")
    return done.stdout.strip()


def _make_venv(cache: pathlib.Path) -> pathlib.Path:
    """The environment's python. It also sees the packages of the project's own environment."""
    project = REPOSITORY / ".venv" / "bin" / "python"
    if not project.exists():
        raise PrepareError(f"there is no {project.parent.parent}; run deploy/local/setup.sh first")
    python = cache / "venv" / "bin" / "python"
    requirements = HERE / "requirements.txt"
    done = cache / "venv" / "requirements.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return python
    shutil.rmtree(cache / "venv", ignore_errors=True)
    _run([project, "-m", "venv", cache / "venv"], "making the peers' environment")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    shared = _run([project, "-c", where], "finding the project's packages")
    own = _run([python, "-c", where], "finding the peers' packages")
    (pathlib.Path(own) / "strata_project.pth").write_text(shared + "\n")
    _run([python, "-m", "pip", "install", "-q", "-r", requirements], "installing the peers")
    done.write_text(requirements.read_text())
    return python


def _source(cache: pathlib.Path, python: pathlib.Path, requirement: str, part: str) -> pathlib.Path:
    """The folder `part` of the package's source distribution."""
    name, version = requirement.split("==")
    stem = f"{name.replace('-', '_')}-{version}"
    folder = cache / "src" / stem
    if not (folder / part).exists():
        _run([python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name,
              "-d", cache / "sdist", requirement], f"downloading the source of {requirement}")
        with tarfile.open(cache / "sdist" / f"{stem}.tar.gz") as archive:
            archive.extractall(cache / "src", filter="data")
    return folder / part


def _requirements() -> dict:
    lines = (HERE / "sources.txt").read_text().splitlines()
    pinned = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {line.split("==")[0]: line for line in pinned}


def _build(output: pathlib.Path, inputs: list, build) -> None:
    """Calls build(temporary) if `output` is missing or older than its inputs."""
    if output.exists() and all(output.stat().st_mtime >= path.stat().st_mtime for path in inputs):
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".new")
    build(temporary)
    temporary.replace(output)


def _build_llama_lookup(cache: pathlib.Path, source: pathlib.Path) -> None:
    shim = HERE / "llama_lookup_shim.cc"
    lookup = source / "common" / "ngram-cache.cpp"
    includes = [f"-I{source / part}" for part in ("common", "include", "ggml/include")]

    def build(output):
        _run(["g++", *CXX_FLAGS, *includes, shim, lookup, "-o", output],
             "compiling llama.cpp's n-gram caches")

    _build(cache / "lib" / "llama_lookup.so", [shim, lookup], build)


def _build_suffix_decoding(cache: pathlib.Path, python: pathlib.Path, source: pathlib.Path) -> None:
    suffix = _run([python, "-c", "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"],
                  "asking Python for its extensions' names")
    build_dir = cache / "build" / "suffix_decoding"

    def build(output):
        _run(["cmake", "-S", source, "-B", build_dir, f"-DPython_EXECUTABLE={python}",
              "-DCMAKE_BUILD_TYPE=Release"], "configuring SuffixDecoding's extension")
        _run(["cmake", "--build", build_dir], "compiling SuffixDecoding's extension")
        shutil.copy(next(build_dir.glob("_C*.so")), output)

    inputs = sorted(source.glob("*.cc")) + sorted(source.glob("*.h"))
    _build(cache / "lib" / f"_C{suffix}", inputs, build)


def llama_cpp_tool(name: str) -> pathlib.Path:
    return cache_dir() / "build" / "llama.cpp" / "bin" / name


def convert_to_gguf(python: pathlib.Path, model: pathlib.Path, kind: str) -> pathlib.Path:
    """The model in llama.cpp's format: `kind` is bf16 or one of llama-quantize's, such as Q4_1."""
    cache = cache_dir()
    source = _source(cache, python, _requirements()["llama-cpp-python"], "vendor/llama.cpp")
    output = cache / "gguf" / f"{model.resolve().name}-{kind}.gguf"

    def convert(temporary):
        os.environ["PYTHONPATH"] = str(source / "gguf-py")
        _run([python, source / "convert_hf_to_gguf.py", model, "--outtype", kind,
              "--outfile", temporary], f"converting {model} to GGUF")

    def quantize(temporary):
        _run([llama_cpp_tool("llama-quantize"), convert_to_gguf(python, model, "bf16"), temporary,
              kind], f"quantizing {model}")

    _build(output, sorted(model.glob("*.safetensors")), convert if kind == "bf16" else quantize)
    return output


def prepare_llama_cpp() -> pathlib.Path:
    """Compiles llama.cpp's programs if they are missing; the python to run the comparison with."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    python = _make_venv(cache)
    source = _source(cache, python, _requirements()["llama-cpp-python"], "vendor/llama.cpp")
    build_dir = cache / "build" / "llama.cpp"
    tools = ["llama-server", "llama-lookup", "llama-quantize"]
    if not all(llama_cpp_tool(tool).exists() for tool in tools):
        _run(["cmake", "-S", source, "-B", build_dir, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
              "-DLLAMA_CURL=OFF"], "configuring llama.cpp")
        _run(["cmake", "--build", build_dir, "--target", *tools], "compiling llama.cpp")
    return python


def run_prepared(program: str, make_ready, script: str) -> int:
    """Becomes `script` beside this file, run by the python of make_ready(); returns only if that fails."""
    try:
        python = make_ready()
    except PrepareError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    os.execv(python, [str(python), str(HERE / script), *sys.argv[1:]])


def prepare() -> pathlib.Path:
    """Installs and compiles what is missing; the python to run the peers with."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    python = _make_venv(cache)
    pinned = _requirements()
    _build_llama_lookup(cache, _source(cache, python, pinned["llama-cpp-python"],
                                       "vendor/llama.cpp"))
    _build_suffix_decoding(cache, python, _source(cache, python, pinned["arctic-inference"],
                                                  "csrc/suffix_decoding"))
    return python
