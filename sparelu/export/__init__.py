"""A network in other formats: ONNX, C, NumPy."""

from sparelu.export.arrays import to_arrays as to_arrays
from sparelu.export.arrays import to_numpy as to_numpy
from sparelu.export.c import Footprint as Footprint
from sparelu.export.c import to_c as to_c
from sparelu.export.onnx import to_onnx as to_onnx
