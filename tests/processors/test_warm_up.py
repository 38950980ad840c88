"""`warm_up` runs every compiled function of a worker: nothing is compiled or loaded during its first batches.

The test runs in a process of its own, because other tests have compiled for other types of arguments.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from streams.simulate.day import Scenario
from tests.simulate import both_processors

SCRIPT = """
import gc
import pickle
import sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from streams.processors.container_processor import ContainerProcessor
from streams.processors.parcel_processor import ParcelProcessor
from streams.processors.warm_up import warm_up
from tests.simulate import both_processors

logs, last_tick_ms = pickle.loads(Path(sys.argv[1]).read_bytes())

def compiled():
    functions = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {(each.py_func.__module__, each.py_func.__name__, str(one)) for each in functions for one in each.signatures}

warm_up()
before = compiled()
assert before, "nothing is compiled"
ran = both_processors.run(logs, last_tick_ms, (1, 7, 100, 3000), 1)
assert ran.alerts and ran.milestones
processor = ParcelProcessor(0, 1)
processor.restore({key: value or None for key, value in ran.states.items()})
for new in sorted(compiled() - before):
    print(*new)
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled here")
def test_nothing_is_left_to_compile(tmp_path):
    # Not simulated there, for the simulator uses some of the same code.
    scenario = Scenario(parcels=300, seed=1)
    given = tmp_path / "logs"
    given.write_bytes(pickle.dumps((both_processors.simulated(scenario), scenario.last_tick_ms)))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(given)]
    found = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert found.stdout == ""
