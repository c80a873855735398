"""Read a network from a file: ``formats.py`` is the one door, and behind it ONNX (``onnx_file.py``) and NetX (``netx.py``).

What an ONNX file says between two neurons is affine, so every value that spikes flow into is a *form* (``form.py``): a sum of
linear maps (``steps.py``) of spikes of some time steps before, and a constant. ``operators/`` says once, for each ONNX operator,
what it does to forms and to constants; ``graph.py`` walks through the graph, and ``loop.py`` through one step of a loop, with the
same operators. A neuron turns a form into a population, each of its terms into an edge (``compose.py`` makes one map of its
steps)."""
