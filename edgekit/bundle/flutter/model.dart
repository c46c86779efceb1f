/// A bundle as a model. What runs the network and what reads files is handed in, so that this needs no Flutter.
library;

import 'dart:convert';
import 'dart:math';
import 'dart:typed_data';

import 'images.dart';
import 'tokenizer.dart';

const bundleSchema = 'edgekit.bundle/1';

/// A tensor of the model: token ids are an [Int64List], everything else is a [Float32List].
class Values {
  const Values(this.data, this.shape);

  final List<num> data;
  final List<int> shape;
}

typedef Inputs = Map<String, Values>;

/// What runs the network.
abstract interface class Network {
  /// Named tensors in, the numbers of the answer out.
  Future<List<double>> run(Inputs inputs);

  /// Gives its memory back.
  Future<void> close();
}

/// Makes what runs the network that bundle.json describes.
typedef Open = Future<Network> Function(Map<String, dynamic> description);

/// Reads a file of the bundle, by its path from bundle.json.
typedef Read = Future<Uint8List> Function(String name);

/// A class and how likely it is.
class Prediction {
  const Prediction(this.label, this.score);

  final String label;
  final double score;
}

/// A loaded bundle.
class Model {
  Model._(this._description, this._network, this.labels, this._tokenizer);

  final Map<String, dynamic> _description;
  final Network _network;
  final List<String> labels;
  final Tokenizer? _tokenizer;

  /// Load a bundle; whoever loads it closes it. Throws a [FormatException] where its parts do not fit each other; the
  /// self-test says which.
  static Future<Model> load(Read read, Open open) async {
    final description = parse(await read('bundle.json'));
    if (description['schema'] != bundleSchema) {
      throw FormatException('bundle.json has the schema ${description['schema']}; this reads $bundleSchema');
    }
    final answer = description['answer'] as Map<String, dynamic>;
    final lines = utf8.decode(await read(answer['labels'] as String)).split('\n');
    final labels = lines.sublist(0, lines.length - 1);
    if (labels.length != answer['count']) {
      throw FormatException('${answer['labels']} has ${labels.length} lines, not ${answer['count']}');
    }
    final preprocessing = description['preprocessing'] as Map<String, dynamic>;
    final tokenizer = preprocessing['kind'] == 'text'
        ? Tokenizer(parse(await read(preprocessing['compiled'] as String)))
        : null;
    return Model._(description, await open(description), labels, tokenizer);
  }

  /// Labels with scores of a [String], of two, or of a [RawImage]; the best first.
  Future<List<Prediction>> predict(Object raw, [String? pair]) async {
    final scores = _scores(await output(prepare(raw, pair)));
    final all = [for (var index = 0; index < labels.length; index++) Prediction(labels[index], scores[index])];
    return all..sort((one, other) => other.score.compareTo(one.score));
  }

  /// The model's answer to prepared inputs, one number a class.
  Future<List<double>> output(Inputs inputs) => _network.run(inputs);

  /// Gives the network's memory back; the model answers nothing after that.
  Future<void> close() => _network.close();

  /// What the model takes, by name, with a batch of one.
  Inputs prepare(Object raw, [String? pair]) {
    final preprocessing = _description['preprocessing'] as Map<String, dynamic>;
    final tokenizer = _tokenizer;
    if (raw is RawImage && pair == null && tokenizer == null) {
      final steps = (preprocessing['steps'] as List).cast<Map<String, dynamic>>();
      return {preprocessing['input'] as String: prepareImage(raw, preprocessing['channels'] as int, steps)};
    }
    if (raw is! String || tokenizer == null) {
      final wanted = tokenizer == null ? 'images' : 'texts';
      final given = pair == null ? '${raw.runtimeType}' : '${raw.runtimeType} and a second text';
      throw ArgumentError('the model takes $wanted, and was given $given');
    }
    final encoded = tokenizer.encode(raw, pair);
    final all = {
      'ids': encoded.ids,
      'segments': encoded.segments,
      'mask': List.filled(encoded.ids.length, 1),
    };
    return {
      for (final MapEntry(:key, :value) in all.entries)
        if (preprocessing[key] != null)
          preprocessing[key] as String: Values(Int64List.fromList(value), [1, value.length]),
    };
  }

  List<double> _scores(List<double> output) {
    switch (_description['answer']['activation']) {
      case 'none':
        return output;
      case 'sigmoid':
        return [for (final value in output) 1 / (1 + exp(-value))];
      default:
        final largest = output.reduce(max);
        final grown = [for (final value in output) exp(value - largest)];
        final sum = grown.reduce((one, other) => one + other);
        return [for (final value in grown) value / sum];
    }
  }
}

Map<String, dynamic> parse(Uint8List bytes) => jsonDecode(utf8.decode(bytes)) as Map<String, dynamic>;
