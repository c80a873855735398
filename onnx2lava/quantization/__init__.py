"""From real numbers to Loihi's integers: a scale per population (``scale.py``), rounding (``integers.py``), what it cost
(``report.py``)."""

from .quantizing import quantize
from .report import LayerQuantization, QuantizationReport, layer_scales, quantization_notes, quantization_report

__all__ = [
    "LayerQuantization",
    "QuantizationReport",
    "layer_scales",
    "quantization_notes",
    "quantization_report",
    "quantize",
]
