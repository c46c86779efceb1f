/// The bundle among the assets of this package, its network in ONNX Runtime.
library;

import 'dart:io';
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

Future<Network> _open(Map<String, dynamic> description) async {
  final forms = (description['model']['forms'] as List).cast<Map<String, dynamic>>();
  final form = forms.firstWhere(
    (one) => one['format'] != 'tflite',
    orElse: () => throw const FormatException('ONNX Runtime runs .onnx and .ort, and the bundle has neither'),
  );
  final file = await _stored(form['file'] as String, description);
  return _Session(await OnnxRuntime().createSession(file.path), description['answer']['output'] as String);
}

/// A file of the bundle outside of the app's assets, where ONNX Runtime can open it. It is named by its sum, so that the
/// model of an app's earlier version is never taken for that of this one, and it is put into place when it is whole.
Future<File> _stored(String name, Map<String, dynamic> description) async {
  final record = description['files'][name] as Map<String, dynamic>;
  final file = File('${Directory.systemTemp.path}/edgekit-${record['sha256']}.${name.split('.').last}');
  if (await file.exists() && await file.length() == record['size_bytes']) return file;
  final begun = File('${file.path}.$pid');
  await begun.writeAsBytes(await _read(name), flush: true);
  return begun.rename(file.path);
}

class _Session implements Network {
  _Session(this._session, this._output);

  final OrtSession _session;
  final String _output;

  @override
  Future<List<double>> run(Inputs inputs) async {
    final held = <OrtValue>[];
    try {
      final feeds = <String, OrtValue>{};
      for (final MapEntry(:key, :value) in inputs.entries) {
        held.add(feeds[key] = await OrtValue.fromList(value.data, value.shape));
      }
      final answers = await _session.run(feeds);
      held.addAll(answers.values);
      final numbers = await answers[_output]!.asFlattenedList();
      return [for (final number in numbers) (number as num).toDouble()];
    } finally {
      for (final value in held) {
        await value.dispose();
      }
    }
  }

  @override
  Future<void> close() => _session.close();
}
