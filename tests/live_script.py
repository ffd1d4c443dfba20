"""Run the live explorers' JavaScript with Deno, without a page."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from quant_tutorial.web import bundling

RUN = """
import * as module from %s;
const given = JSON.parse(await new Response(Deno.stdin.readable).text());
console.log(JSON.stringify(((module, given) => %s)(module, given)));
"""


def javascript(module: str, expression: str, given: Any) -> Any:
    """Evaluate an expression of `module`, one of the kit's, and `given`."""
    deno = shutil.which("deno", path=Path(sys.executable).parent)
    assert deno is not None, "Deno is not installed beside this Python: install the extra `test`"
    address = json.dumps((bundling.SCRIPTS / module).as_uri())
    done = subprocess.run(
        [deno, "eval", "--no-config", "--no-lock", RUN % (address, expression)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
