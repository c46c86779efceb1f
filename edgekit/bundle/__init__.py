"""Bundles: a model with all that an app needs to run it, without Python and without edgekit.

build.py        an artifact and a platform -> a folder
schema.py       bundle.json and selftest.json; bundle.schema.json is the former as JSON Schema
tokenizer.py    normalizer.py, unicode.py: a tokenizer as a program of tables, the same on every platform
pixels.py       an image processor as ordered steps
forms.py        the model as .onnx, .ort or .tflite
selftest.py     raw inputs, prepared inputs, answers; probes.py has the inputs that no data give
documents.py    card, licence, notice, benchmark
check.py        rules.py, binaries.py: what holds for every bundle, told without running it
platforms/      one file a platform, and the table of them; coordinates.toml has the versions they depend on
reference/      runs a bundle in Python; what the others do is compared with it, and bundles for Python carry it
"""
