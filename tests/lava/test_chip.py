"""A run configuration of the user's own, and a trace recorded with it, on Lava's simulation in the place of a chip."""

import subprocess
import sys

import numpy as np
import pytest

from custom_ops.files.trace import Trace, read_trace, write_trace
from onnx2lava import run_lava, run_netx, save_netx, verify
from onnx2lava.errors import ConversionError, LavaRunError
from onnx2lava.lava_runtime import NamedRunConfig
from onnx2lava.network import INPUT
from onnx2lava.targets.numpy import simulate
from onnx2lava.verification.parallel import Processes
from tests.conftest import ROOT
from tests.onnx2lava.networks import chains, spikes

LABORATORY = """
import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import PyLifResetModelBitAcc
from lava.proc.lif.process import LIFReset

class Adapter(AbstractProcess):
    def __init__(self, shape):
        super().__init__(shape=shape)
        self.inp, self.out = InPort(shape=shape), OutPort(shape=shape)

@implements(proc=Adapter, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class AdapterModel(PyLoihiProcessModel):
    inp = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    def run_spk(self):
        self.out.send(self.inp.recv())

class Restless(PyLifResetModelBitAcc):  # a chip with a fault: every neuron's threshold is one lower
    implements_process, implements_protocol = LIFReset, LoihiProtocol
    def scale_threshold(self):
        self.effective_vth = np.left_shift(np.maximum(self.vth - FAULT, 0), self.vth_shift)
        self.isthrscaled = True

FAULT = 0
made = []

class Config(Loihi2SimCfg):
    def through(self, source, target):
        adapter = Adapter(shape=target.shape)
        source.connect(adapter.inp)
        adapter.out.connect(target)
        made.append(adapter)
    connect_input = connect_output = through

def config():
    return Config(select_tag="fixed_pt", exception_proc_model_map={LIFReset: Restless})

def broken():
    global FAULT
    FAULT = 30
    return config()

not_one = dict
number = 3
"""


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    """A module with run configurations in the current folder."""
    (tmp_path / "laboratory.py").write_text(LABORATORY)
    monkeypatch.chdir(tmp_path)
    yield "laboratory"
    sys.modules.pop("laboratory", None)


def test_its_models_and_adapters_run_in_lava_and_netx(laboratory, tmp_path):
    network = chains()["conv, pool, dense"]
    x = spikes(network, 5, 2)
    (*_, expected) = simulate(network, x).values()
    config = NamedRunConfig.here("laboratory:config")
    assert (run_lava(network, x, run_config=config) == expected).all()
    assert len(sys.modules["laboratory"].made) == 2
    save_netx(network, tmp_path / "a.net")
    assert (run_netx(tmp_path / "a.net", x[INPUT], run_config=config) == expected).all()
    assert (run_lava(network, x, run_config=NamedRunConfig.here("laboratory:broken")) != expected).any()


def test_in_a_pool(laboratory):
    network = chains()["dense"]
    x = spikes(network, 4, 4)[INPUT]
    with Processes(2) as pool:
        result = verify(network, x, against=["numpy", "lava"], executor=pool, run_config=NamedRunConfig.here("laboratory:broken"))
    assert result.mismatches > 0
    assert result.samples == ((0, 4),)
    *_, note = verify(network, x, against=["numpy"], run_config=dict).notes
    assert "run configuration was not used" in note.message


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("laboratory", "write MODULE:FUNCTION"),
        ("nowhere_at_all:config", "No module named 'nowhere_at_all'"),
        ("laboratory:other", "has no attribute 'other'"),
        ("laboratory:number", "is a int: name a function"),
    ],
)
def test_a_name_that_names_none(laboratory, spec, said):
    with pytest.raises(ConversionError, match=said):
        NamedRunConfig.here(spec)


def test_something_else_than_a_run_configuration(laboratory):
    network = chains()["dense"]
    with pytest.raises(LavaRunError, match="run configuration is a dict: it has to be one of Lava's"):
        run_lava(network, spikes(network, 4, 1), run_config=NamedRunConfig.here("laboratory:not_one"))
    with pytest.raises(LavaRunError, match=r"cannot be made \(ZeroDivisionError"):
        run_lava(network, spikes(network, 4, 1), run_config=lambda: 1 / 0)


def test_the_template_records_a_trace_that_verify_reads(tmp_path):
    x = np.load(ROOT / "models/digits_csnn.npz")["input"][:, :2]
    np.save(tmp_path / "x.npy", x)
    model, trace = ROOT / "models/digits_csnn.onnx", tmp_path / "chip.npz"
    command = [sys.executable, ROOT / "models/chip_trace.py", model, tmp_path / "x.npy", trace]
    subprocess.run([str(each) for each in command], check=True)
    result = verify(model, read_trace(trace).input, against=["ort"], trace=read_trace(trace))
    assert result.mismatches == 0
    assert all(layer.reference == "trace" and "ort" in layer.mismatches for layer in result.layers)
    recorded = read_trace(trace)
    wrong = {name: np.array(values) for name, values in recorded.spikes.items()}
    wrong["conv_fc.5"][3, 1, 7] ^= 1
    write_trace(Trace(recorded.input, wrong), trace)
    assert verify(model, x, against=["ort"], trace=read_trace(trace)).mismatches == 1
