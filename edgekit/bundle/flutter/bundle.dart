/// The bundle among the assets of this package, its network in ONNX Runtime.
library;

import 'dart:typed_data';

import 'package:flutter/services.dart' show rootBundle;
import 'package:flutter_onnxruntime/flutter_onnxruntime.dart';

import 'model.dart';
import 'self_test.dart';

const _folder = 'packages/edgekit_model/assets/bundle';

/// Load the bundle.
Future<Model> loadModel() => Model.load(_read, _open);

/// What is wrong with the bundle, one line each; nothing when all is well.
Future<List<String>> selfTest() => selfTestOf(_read, _open);

Future<Uint8List> _read(String name) async {
  final data = await rootBundle.load('$_folder/$name');
  return data.buffer.asUint8List(data.offsetInBytes, data.lengthInBytes);
}

Future<Run> _open(Map<String, dynamic> description) async {
  final forms = (description['model']['forms'] as List).cast<Map<String, dynamic>>();
  final form = forms.firstWhere(
    (one) => one['format'] != 'tflite',
    orElse: () => throw const FormatException('ONNX Runtime runs .onnx and .ort, and the bundle has neither'),
  );
  final session = await OnnxRuntime().createSessionFromAsset('$_folder/${form['file']}');
  final output = description['answer']['output'] as String;
  return (inputs) async {
    final feeds = <String, OrtValue>{};
    for (final MapEntry(:key, :value) in inputs.entries) {
      feeds[key] = await OrtValue.fromList(value.data, value.shape);
    }
    final answers = await session.run(feeds);
    final numbers = await answers[output]!.asFlattenedList();
    for (final value in [...feeds.values, ...answers.values]) {
      await value.dispose();
    }
    return [for (final number in numbers) (number as num).toDouble()];
  };
}
