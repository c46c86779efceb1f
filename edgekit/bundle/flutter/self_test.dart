/// The self-test of a bundle: is every file whole, and does the model answer here as it did where it was made?
library;

import 'dart:math';
import 'dart:typed_data';

import 'package:crypto/crypto.dart' show sha256;

import 'images.dart';
import 'model.dart';

/// What is wrong, one line each; nothing when all is well. Files are looked at first, so that a damaged one is named,
/// and not what follows from it.
Future<List<String>> selfTestOf(Read read, Open open) async {
  final Map<String, dynamic> description;
  try {
    description = parse(await read('bundle.json'));
  } on Exception catch (error) {
    return ['bundle.json: $error'];
  }
  final problems = [...await _fileProblems(read, description), ...await _labelProblems(read, description)];
  if (problems.isNotEmpty) return problems;
  final file = description['selftest'] as String;
  final samples = parse(await read(file));
  final cases = (samples['cases'] as List).cast<Map<String, dynamic>>();
  final largest = cases.expand(_outputOf).map((value) => value.abs()).reduce(max);
  final scale = largest == 0 ? 1.0 : largest;
  final model = await Model.load(read, open);
  try {
    for (final (number, sample) in cases.indexed) {
      final found = await _caseProblems(read, model, sample, samples, scale);
      problems.addAll(found.map((problem) => '$file: sample $number: $problem'));
    }
  } finally {
    await model.close();
  }
  return problems;
}

Future<Uint8List?> _readOrNull(Read read, String name) async {
  try {
    return await read(name);
  } on Object catch (_) {
    return null; // an asset that is not there is a FlutterError, which is no Exception
  }
}

Future<List<String>> _fileProblems(Read read, Map<String, dynamic> description) async {
  final problems = <String>[];
  for (final MapEntry(:key, :value) in (description['files'] as Map<String, dynamic>).entries) {
    final bytes = await _readOrNull(read, key);
    if (bytes == null) {
      problems.add('$key: missing');
    } else if (bytes.length != value['size_bytes']) {
      problems.add('$key: has ${bytes.length} bytes, not ${value['size_bytes']}');
    } else if (sha256.convert(bytes).toString() != value['sha256']) {
      problems.add('$key: changed (its SHA-256 is another one)');
    }
  }
  return problems;
}

Future<List<String>> _labelProblems(Read read, Map<String, dynamic> description) async {
  final answer = description['answer'] as Map<String, dynamic>;
  final bytes = await _readOrNull(read, answer['labels'] as String);
  final count = bytes == null ? 0 : bytes.where((byte) => byte == 0x0A).length;
  if (count == answer['count']) return [];
  return ['${answer['labels']}: $count labels, and the model has ${answer['count']} classes'];
}

List<double> _outputOf(Map<String, dynamic> sample) =>
    [for (final value in sample['output'] as List) (value as num).toDouble()];

Future<List<String>> _caseProblems(
  Read read,
  Model model,
  Map<String, dynamic> sample,
  Map<String, dynamic> samples,
  double scale,
) async {
  final inputs = model.prepare(await _rawOf(read, sample), sample['pair'] as String?);
  final wrong = await _inputProblem(read, inputs, sample, (samples['input_tolerance'] as num).toDouble());
  if (wrong != null) return [wrong];
  final problems = <String>[];
  final output = await model.output(inputs);
  final expected = _outputOf(sample);
  var difference = 0.0;
  for (var index = 0; index < expected.length; index++) {
    difference = max(difference, (output[index] - expected[index]).abs() / scale);
  }
  final allowed = (samples['tolerance'] as num).toDouble();
  if (!(difference <= allowed)) {
    problems.add('the output differs by ${difference.toStringAsPrecision(3)} of the largest answer; allowed: $allowed');
  }
  final label = model.labels[output.indexOf(output.reduce(max))];
  if (sample['label'] != null && sample['label'] != label) {
    problems.add('the label is "$label", not "${sample['label']}"');
  }
  return problems;
}

Future<Object> _rawOf(Read read, Map<String, dynamic> sample) async {
  if (sample['text'] case final String text) return text;
  final data = await read(sample['image'] as String);
  final (width, height) = (sample['width'] as int, sample['height'] as int);
  return RawImage(width, height, data.length ~/ (width * height), data);
}

/// What is wrong with a sample's inputs; where nothing is, they become the stored ones, so that an image that is a step
/// of a pixel away does not count against the model.
Future<String?> _inputProblem(Read read, Inputs inputs, Map<String, dynamic> sample, double tolerance) async {
  for (final MapEntry(key: name, value: stored) in (sample['inputs'] as Map<String, dynamic>).entries) {
    final shape = (stored['shape'] as List).cast<int>();
    final given = inputs[name];
    if (given == null || given.shape.join(',') != shape.join(',')) {
      return '$name has the shape ${given?.shape}, not $shape';
    }
    final bytes = ByteData.sublistView(await read(stored['file'] as String));
    final whole = stored['dtype'] == 'int64';
    final count = given.data.length;
    final List<num> expected = whole
        ? Int64List.fromList([for (var at = 0; at < count; at++) bytes.getInt64(at * 8, Endian.little)])
        : Float32List.fromList([for (var at = 0; at < count; at++) bytes.getFloat32(at * 4, Endian.little)]);
    var difference = 0.0;
    for (var at = 0; at < count; at++) {
      difference = max(difference, (given.data[at] - expected[at]).abs().toDouble());
    }
    final allowed = whole ? 0.0 : tolerance;
    if (!(difference <= allowed)) return '$name differs by ${difference.toStringAsPrecision(3)}; allowed: $allowed';
    inputs[name] = Values(expected, shape);
  }
  return null;
}
