"""Every error by its stable id: what it means, how it usually comes about, and what to do.

An id is the kind of its class, a dot, and what happened; the kind decides the exit code. Ids outlive the text of their
messages: scripts may test them, and one is never removed or given another meaning (tests/error_ids.txt holds the list).
Where an error has no hint of its own, the remedy stands in its place. `docs/errors.md` is made of this table.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """What is said of an id.

    Attributes:
        means: what happened, in one line.
        cause: how it usually comes about.
        remedy: what to do next.
    """

    means: str
    cause: str
    remedy: str


CATALOGUE: dict[str, Entry] = {
    "verification.changed": Entry(
        "Files of an artifact are not as they were sealed.",
        "They were edited, cut short in copying, removed, or added to.",
        "Copy the artifact again, or run compress again.",
    ),
    "verification.answers-differ": Entry(
        "The model runs, and its answers are not the golden ones.",
        "The runtime here is another version, or computes differently on this processor.",
        "Compare its version with the tools in the manifest.",
    ),
    "verification.golden-unreadable": Entry(
        "The golden inputs and answers cannot be read.",
        "The file was damaged.",
        "Copy the artifact again, or run compress again.",
    ),
    "usage.command-line": Entry(
        "The command line cannot be understood.",
        "An argument is missing, one too many, or out of its range.",
        "See what `edgekit COMMAND --help` allows.",
    ),
    "usage.bad-value": Entry(
        "The value of an option is not written as it has to be.",
        "A number without its unit, a pair without `=`, a shape without its batch.",
        "See how `edgekit COMMAND --help` writes it.",
    ),
    "usage.options-conflict": Entry(
        "Options were given that do not go together.",
        "Two that exclude each other, one that was given twice, or one for another kind of model.",
        "Leave one of them out.",
    ),
    "usage.invalid-settings": Entry(
        "A recipe, a target, a pre-processing file or a setting is not valid.",
        "An unknown key, a value out of its range, or a file that is no TOML.",
        "Correct what the error lists; `edgekit recipes check` and `edgekit targets check` look at a file alone.",
    ),
    "usage.settings-conflict": Entry(
        "A setting does not go with another one, or with the model.",
        "A method was forced that the model or the runtime does not have.",
        "Leave the setting to its default.",
    ),
    "usage.no-file": Entry(
        "A file that an option names is not there.",
        "A mistyped path, or another current folder.",
        "Check the path.",
    ),
    "usage.stage-order": Entry(
        "The stages of a recipe do not make a chain.",
        "A stage gets what it does not read, or export and verify are not where they have to be.",
        "Put them in order: prune and distill, one export, optimize and quantize, verify.",
    ),
    "usage.output-taken": Entry(
        "The place for the output holds something that edgekit did not make.",
        "The path of a folder or file of one's own.",
        "Choose another path with -o.",
    ),
    "usage.output-sealed": Entry(
        "The page would lie inside a sealed artifact.",
        "The seal covers every file there.",
        "Write it elsewhere with -o.",
    ),
    "usage.unconfirmed": Entry(
        "Something would be removed, and nobody can be asked.",
        "The command runs in a script, or with --json.",
        "Add --yes.",
    ),
    "usage.target-mismatch": Entry(
        "The target does not take what the recipe makes.",
        "The recipe quantizes to a precision that the device does not have.",
        "Choose another target or recipe; `edgekit targets show NAME` lists what a target takes.",
    ),
    "usage.no-target-here": Entry(
        "No shipped target describes this machine.",
        "Its processor is of an architecture that is not among them.",
        "Write a TOML file after targets/README.md and pass its path.",
    ),
    "usage.lock-mismatch": Entry(
        "A lock repeats one run, and something else was given.",
        "Another model, other data, another target, or a processor of another level.",
        "Give what the lock was made with, or a recipe without a lock.",
    ),
    "usage.workload": Entry(
        "The model does not take inputs of this size.",
        "Texts longer than its positions, images of another size, or the size of the other kind.",
        "Leave the option out, or give a size that the error allows.",
    ),
    "usage.input-unknown": Entry(
        "It is not known what a module given as code takes.",
        "Neither the shape of its input nor data was given.",
        "Give the shape of one batch: --input 1x3x32x32.",
    ),
    "usage.preprocessing": Entry(
        "Images cannot be prepared as was asked.",
        "Mean and standard deviation do not fit each other or the channels, or the input is no image.",
        "Give --mean and --std one value for each channel, or one for all.",
    ),
    "usage.not-a-model": Entry(
        "Something that can be no model was given from Python.",
        "An object that is no path, no module and no function.",
        "Give a folder, a hub id, file.py:function, an nn.Module, or a function that returns one.",
    ),
    "usage.not-measurable": Entry(
        "Latency is measured on exported models, and this is none.",
        "A model folder, or the artifact of a stage before the export.",
        "Give the output of compress, or an .onnx file.",
    ),
    "usage.nothing-to-prune": Entry(
        "No channel of the module can be pruned.",
        "Every group of channels touches something whose effect cannot be proven.",
        "Use a recipe without pruning: --recipe quantize.",
    ),
    "usage.training-diverged": Entry(
        "The loss of the distillation is no longer a number.",
        "A learning rate that is too high for the model.",
        "Lower it: --set distill.learning_rate=3e-5.",
    ),
    "usage.student-untaught": Entry(
        "A student was given, and nothing would teach it.",
        "The recipe has no distill stage, or there is no data.",
        "Use --recipe distill, with --data.",
    ),
    "usage.student-differs": Entry(
        "The student does not read or answer as its teacher does.",
        "Another tokenizer, other inputs, or another number of classes.",
        "Give a student with the teacher's inputs, classes and tokenizer.",
    ),
    "usage.runs-to-compare": Entry(
        "There is nothing to compare.",
        "Fewer than two runs, or one that was named twice.",
        "Give the folders of two or more runs.",
    ),
    "unknown-name.command": Entry(
        "There is no such command.", "A typing mistake.", "`edgekit --help` lists the commands."
    ),
    "unknown-name.option": Entry(
        "The command has no such option.",
        "A typing mistake, or the option of another command.",
        "Use one of those that the error lists.",
    ),
    "unknown-name.target": Entry(
        "There is no such target.", "A typing mistake.", "`edgekit targets list` describes them."
    ),
    "unknown-name.recipe": Entry(
        "There is no such recipe.", "A typing mistake.", "`edgekit recipes list` describes them."
    ),
    "unknown-name.stage": Entry(
        "There is no such stage, or the recipe has none of that name.",
        "A typing mistake in --set or in a recipe.",
        "`edgekit recipes show NAME` lists the stages of a recipe.",
    ),
    "unknown-name.setting": Entry(
        "The stage has no such setting.",
        "A typing mistake in --set.",
        "`edgekit recipes show NAME` lists the settings of each stage.",
    ),
    "unknown-name.task": Entry(
        "There is no such task.", "A typing mistake in --task.", "Leave it out where config.json says the task."
    ),
    "unknown-name.metric": Entry(
        "The task has no such metric.", "A typing mistake, or the metric of another task.", "Use one that is listed."
    ),
    "unknown-name.column": Entry(
        "The data has no such column, or the task reads none of that kind.",
        "A typing mistake, or the two sides of --columns were swapped.",
        "Write --columns OURS=YOURS, as in text=sentence,label=y.",
    ),
    "unknown-name.split": Entry(
        "The data has no such split.", "A typing mistake in --split.", "Use one that is listed, or leave it out."
    ),
    "unknown-name.layer": Entry(
        "The graph has no layer of this name.", "A name of another model.", "See the layers that the message lists."
    ),
    "unknown-name.function": Entry(
        "The file of code has no such function.", "A typing mistake after the colon.", "Use one that is listed."
    ),
    "environment.no-permission": Entry(
        "A file or folder may not be read or written.",
        "It belongs to someone else, or the disk is mounted for reading only.",
        "Choose another path with -o, or another cache with EDGEKIT_CACHE.",
    ),
    "environment.no-package": Entry(
        "A package is missing.", "It is of an extra that was not installed.", "Install it beside edgekit, with pip."
    ),
    "environment.no-network": Entry(
        "Something is not here, and the hub could not be reached.",
        "No network, HF_HUB_OFFLINE is set, or a mistyped path that looks like a hub id.",
        "Check the spelling of the path, or the network; what was fetched before works offline.",
    ),
    "environment.measuring": Entry(
        "The process that measures failed.",
        "It was killed, or memory ran out.",
        "Run it again with fewer other programs; `edgekit doctor` tests the runtime.",
    ),
    "environment.no-runtime": Entry(
        "The environment that a runtime needs for itself cannot be made.",
        "No network, or a Python that the runtime was never built for.",
        "Connect to the package index once; what was made works offline.",
    ),
    "environment.no-browser": Entry(
        "No browser could be started.", "A machine without a screen.", "Open the page yourself: it is written."
    ),
    "model.missing": Entry(
        "There is no model at this path.",
        "A mistyped path, or another current folder.",
        "Check the path, or give a hub id such as 'organisation/name'.",
    ),
    "model.not-on-hub": Entry(
        "The hub has no such model or revision.",
        "A mistyped id, or a private or gated model.",
        "Check the id; for a private model, log in with `hf auth login` or set HF_TOKEN.",
    ),
    "model.not-a-model": Entry(
        "What lies there is no model that the command reads.",
        "A file in place of its folder, or a folder without config.json.",
        "Give a folder that save_pretrained wrote, or code as file.py:function; bench and inspect read .onnx files.",
    ),
    "model.invalid-config": Entry(
        "The configuration of a model cannot be read.",
        "It is no JSON, too large, or names no architecture.",
        "Save the model again with save_pretrained(FOLDER).",
    ),
    "model.unknown-architecture": Entry(
        "The architecture is for no task that edgekit knows.",
        "A model that generates, embeds or tags.",
        "Name the task with --task where it fits all the same.",
    ),
    "model.wrong-task": Entry(
        "The model is not for this task.",
        "Another --task than the model was trained for.",
        "Leave out --task, or name another one.",
    ),
    "model.adapter": Entry(
        "The folder holds an adapter, not a whole model.",
        "It was trained with PEFT.",
        "Merge it first: model.merge_and_unload().save_pretrained(FOLDER).",
    ),
    "model.own-code": Entry(
        "The model needs code that comes with it.",
        "config.json has an auto_map; edgekit does not run such code.",
        "Use an architecture of transformers' own, or write a function and give the model as file.py:function.",
    ),
    "model.no-weights": Entry(
        "There are no weights.",
        "The download was not finished, or --weights names no file.",
        "Put model.safetensors beside config.json, or check the path of --weights.",
    ),
    "model.corrupt-weights": Entry(
        "The weights are not valid safetensors.",
        "A download or a copy that was cut short, or a pointer of Git LFS in place of the file.",
        "Fetch or copy the file again.",
    ),
    "model.weights-format": Entry(
        "The file of weights holds something else than tensors.",
        "A pickled module, or a file of another program; edgekit runs no code of a file.",
        "Save them with safetensors.torch.save_file(module.state_dict(), FILE).",
    ),
    "model.weights-mismatch": Entry(
        "The weights do not fit the model.",
        "They are of another model, of another size, or lack the classifier.",
        "Give the weights and the model that belong together.",
    ),
    "model.no-preprocessor": Entry(
        "The folder lacks what feeds the model.",
        "Only the model was saved, without its tokenizer or image processor.",
        "Save it beside the model: tokenizer.save_pretrained(FOLDER) or processor.save_pretrained(FOLDER).",
    ),
    "model.does-not-load": Entry(
        "The model cannot be loaded or run.",
        "A damaged file, or operators that this version of the library does not know.",
        "Check the file with `edgekit inspect PATH`, an artifact with `edgekit verify PATH`.",
    ),
    "model.invalid-onnx": Entry(
        "The file is no valid ONNX graph.",
        "It was damaged, or is of another format.",
        "Fetch, copy or export it again.",
    ),
    "model.invalid-tflite": Entry(
        "The file is no valid TFLite model.", "It was damaged, or is of another format.", "Fetch or export it again."
    ),
    "model.input-type": Entry(
        "Inputs of this type cannot be made up.",
        "A graph that takes strings.",
        "Give a graph whose inputs are numbers.",
    ),
    "model.code-fails": Entry(
        "Code that was given fails.",
        "An import that is missing, a function that needs arguments, or an input of another shape.",
        "Try it in Python first: the function is called without arguments.",
    ),
    "model.unsuitable-code": Entry(
        "Code that was given is no model that edgekit can take.",
        "It takes several inputs, gives several outputs, or is no torch.nn.Module.",
        "Wrap it in a module that takes one tensor and gives one: logits [batch, ..., classes].",
    ),
    "model.code-not-named": Entry(
        "An artifact of a module is to be loaded, and its code was not named.",
        "A torch artifact holds weights and a plan, not the code.",
        "Name it: edgekit.load_pruned(PATH, build='file.py:function').",
    ),
    "model.not-prunable": Entry(
        "edgekit does not know where this architecture keeps its heads and neurons.",
        "It is none of those that structured pruning knows.",
        "Use a recipe without pruning: --recipe quantize.",
    ),
    "model.plan-mismatch": Entry(
        "A pruning plan does not fit the model.",
        "Files of two artifacts were mixed, or the code has changed since.",
        "Take plan, weights and code of one run.",
    ),
    "model.export-fails": Entry(
        "torch cannot export the model.",
        "Control flow that depends on values, or an operator without a translation.",
        "EDGEKIT_DEBUG=1 shows the exporter's own report.",
    ),
    "model.export-differs": Entry(
        "The exported graph answers differently from torch.",
        "An operator whose translation is not exact.",
        "Report it with the model's architecture, or allow more with --set export.tolerance=...",
    ),
    "model.no-numbers": Entry(
        "The artifact answers with values that are no numbers.",
        "A precision that the model does not bear.",
        "Try --recipe quantize, or --set quantize.method=dynamic.",
    ),
    "data.missing": Entry(
        "There is no data at this path.",
        "A mistyped path, or another current folder.",
        "Check the path, or give a hub id such as 'stanfordnlp/sst2'.",
    ),
    "data.not-on-hub": Entry(
        "The hub has no such data set.",
        "A mistyped id, or a private or gated data set.",
        "Check the id; for a private one, log in with `hf auth login` or set HF_TOKEN.",
    ),
    "data.unreadable": Entry(
        "The data cannot be read.",
        "A damaged file, or a format that is not supported.",
        "Give csv, tsv, json lines or parquet with named columns, or a folder of images by class.",
    ),
    "data.empty": Entry(
        "The data has no rows.",
        "An empty folder, or a file that holds its header only.",
        "Check that it is the file you mean.",
    ),
    "data.too-few": Entry(
        "The data is too small to be divided.",
        "A handful of rows, of which some have to be held out.",
        "Give more rows, or a file for each split: train.csv and validation.csv.",
    ),
    "data.no-column": Entry(
        "No column is recognised as the model's input.",
        "It has an unusual name, or the data is for another task.",
        "Name it: --columns text=NAME, image=NAME or input=NAME.",
    ),
    "data.no-labels": Entry(
        "The data has no labels, and something needs them.",
        "There is no column of labels, or it has an unusual name.",
        "Name it with --columns label=NAME; without labels, prune with --set prune.importance=magnitude.",
    ),
    "data.unknown-label": Entry(
        "The data has a label that the model does not know.",
        "Names or numbers of other classes, or another column than that of the labels.",
        "Rename the labels in the data, or choose another column with --columns label=NAME.",
    ),
    "data.unsuitable-sample": Entry(
        "A sample is not what the model takes.",
        "A missing text, an array of another shape, or a file that is no image.",
        "Correct or remove it.",
    ),
    "artifact.missing": Entry(
        "There is no artifact or run at this path.",
        "A mistyped path, or another current folder.",
        "Give the output folder of compress.",
    ),
    "artifact.not-an-artifact": Entry(
        "What lies there is no artifact of edgekit, or no run.",
        "A model folder, or the folder around it.",
        "Give the output folder of compress.",
    ),
    "artifact.not-sealed": Entry(
        "The folder has no seal that could be checked.",
        "It is no output of compress, or SHA256SUMS was removed.",
        "Give the output folder of compress.",
    ),
    "artifact.invalid-file": Entry(
        "The manifest, plan or report cannot be read.",
        "It was edited or damaged.",
        "`edgekit verify PATH` names what was changed; copy the artifact again, or run compress again.",
    ),
    "artifact.other-version": Entry(
        "The report is of another version of edgekit.",
        "It was written by a newer or a much older one.",
        "Read it with the edgekit that wrote it, or run compress again.",
    ),
    "artifact.wrong-format": Entry(
        "The artifact is of the wrong format for this.",
        "An exported one, where the weights of torch are needed.",
        "Run compress with --keep-stages and take one of OUT/stages/*-prune or *-distill.",
    ),
    "resource-limit.disk-full": Entry(
        "The disk is full.",
        "The cache or the output needs more than is left.",
        "Make room, for instance with `edgekit cache prune`. The same command again goes on where this one stopped.",
    ),
    "resource-limit.memory": Entry(
        "Memory ran out.",
        "A batch, texts or images too large for this machine.",
        "Lower --batch, --tokens or --image, or use a machine with more memory.",
    ),
    "internal": Entry(
        "A fault in edgekit.",
        "A promise of its own was broken.",
        "EDGEKIT_DEBUG=1 shows the traceback; please report it, with what `edgekit env` prints.",
    ),
    "interrupted": Entry("Ctrl-C stopped the command.", "You did.", "The same command goes on where it stopped."),
    "terminated": Entry(
        "SIGTERM stopped the command.", "A scheduler or a shutdown.", "The same command goes on where it stopped."
    ),
}


def remedy(id: str) -> str:
    """What to do next for an id; nothing for one that has no entry."""
    return CATALOGUE[id].remedy if id in CATALOGUE else ""
