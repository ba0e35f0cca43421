"""``service.client`` for those who have no PyTorch."""

import subprocess
import sys

LOADED = """
import sys
import service.client
heavy = {"torch", "torchvision", "fastapi", "pydantic", "pycocotools", "models", "starlette"}
print(sorted(heavy & set(sys.modules)))
"""
WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
try:
    import service.client
except ModuleNotFoundError as error:
    print(error)
"""


def output(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_imports_neither_pytorch_nor_the_server() -> None:
    assert output(LOADED) == "[]"


def test_without_httpx_it_says_what_to_install() -> None:
    assert output(WITHOUT_HTTPX) == "The client needs httpx: pip install httpx"
