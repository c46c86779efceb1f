/// Images to a model's input, by the steps of bundle.json. Resizing is Pillow's, in integers of 8 bits, and gives the
/// same pixels.
library;

import 'dart:math';
import 'dart:typed_data';

import 'model.dart' show Values;

/// Pixels row by row, 8 bits a channel: 3 channels (RGB) or 1.
class RawImage {
  RawImage(this.width, this.height, this.channels, this.data) {
    final sound = width > 0 && height > 0 && (channels == 1 || channels == 3);
    if (!sound || data.length != width * height * channels) {
      throw ArgumentError(
        '${data.length} bytes for $width x $height pixels of $channels channels; 1 (grey) or 3 (RGB), a byte each',
      );
    }
  }

  /// From four channels, as Flutter decodes images (`ImageByteFormat.rawStraightRgba`); on white where it is transparent.
  factory RawImage.fromRgba(int width, int height, Uint8List rgba) {
    if (rgba.length != width * height * 4) {
      throw ArgumentError('${rgba.length} bytes for $width x $height pixels of 4 channels');
    }
    final data = Uint8List(width * height * 3);
    for (var pixel = 0; pixel < width * height; pixel++) {
      final alpha = rgba[pixel * 4 + 3];
      for (var channel = 0; channel < 3; channel++) {
        data[pixel * 3 + channel] = (rgba[pixel * 4 + channel] * alpha + 255 * (255 - alpha) + 127) ~/ 255;
      }
    }
    return RawImage(width, height, 3, data);
  }

  final int width;
  final int height;
  final int channels;
  final Uint8List data;
}

typedef _Step = Map<String, dynamic>;

const _precisionBits = 22; // 32 - 8 - 2, of Pillow's Resample.c
final _filters = <String, (double, double Function(double))>{
  'box': (0.5, (x) => x > -0.5 && x <= 0.5 ? 1 : 0),
  'bilinear': (1, (x) => max(0, 1 - x.abs())),
  'hamming': (1, _hamming),
  'bicubic': (2, _bicubic),
  'lanczos': (3, (x) => x >= -3 && x < 3 ? _sinc(x) * _sinc(x / 3) : 0),
};

/// The input of one image, with a batch of one.
Values prepareImage(RawImage raw, int channels, List<_Step> steps) {
  var image = _withChannels(raw, channels);
  Float32List? values;
  var shape = <int>[];
  for (final step in steps) {
    switch (step['op']) {
      case 'resize':
        image = _resize(image, step['width'] as int, step['height'] as int, step['resample'] as String);
      case 'resize_shorter':
        image = _resizeShorter(image, step);
      case 'crop':
        image = _crop(image, step);
      case 'scale':
        final factor = Float32List(1)..[0] = (step['factor'] as num).toDouble();
        final now = values ??= _floats(image);
        for (var index = 0; index < now.length; index++) {
          now[index] = now[index] * factor[0];
        }
      case 'normalize':
        _normalize(values ??= _floats(image), channels, step);
      case 'layout':
        final now = values ??= _floats(image);
        if (step['order'] == 'NCHW') {
          values = _planes(now, channels);
          shape = [1, channels, image.height, image.width];
        } else {
          shape = [1, image.height, image.width, channels];
        }
      case final op:
        throw FormatException('the step "$op" is unknown');
    }
  }
  return Values(values!, shape);
}

Float32List _floats(RawImage image) => Float32List.fromList([for (final value in image.data) value.toDouble()]);

/// RGB or grey, as the model takes it; grey as Pillow makes it.
RawImage _withChannels(RawImage raw, int channels) {
  if (raw.channels == channels) return raw;
  final count = raw.width * raw.height;
  final data = Uint8List(count * channels);
  for (var pixel = 0; pixel < count; pixel++) {
    if (channels == 3) {
      data.fillRange(pixel * 3, pixel * 3 + 3, raw.data[pixel]);
    } else {
      final [red, green, blue] = raw.data.sublist(pixel * 3, pixel * 3 + 3);
      data[pixel] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
    }
  }
  return RawImage(raw.width, raw.height, channels, data);
}

RawImage _resizeShorter(RawImage image, _Step step) {
  final short = min(image.width, image.height);
  final size = step['size'] as int;
  final width = max(size * image.width ~/ short, step['least_width'] as int);
  final height = max(size * image.height ~/ short, step['least_height'] as int);
  return _resize(image, width, height, step['resample'] as String);
}

/// The centre; what lies outside of the image is black.
RawImage _crop(RawImage image, _Step step) {
  final (width, height) = (step['width'] as int, step['height'] as int);
  int place(int rest) => step['rounding'] == 'down' ? (rest / 2).floor() : _halfToEven(rest);
  final (left, top) = (place(image.width - width), place(image.height - height));
  final data = Uint8List(width * height * image.channels);
  final (begin, end) = (max(0, -left), min(width, image.width - left));
  for (var y = max(0, -top); y < min(height, image.height - top); y++) {
    final from = ((y + top) * image.width + left + begin) * image.channels;
    final to = (y * width + begin) * image.channels;
    data.setRange(to, to + (end - begin) * image.channels, image.data, from);
  }
  return RawImage(width, height, image.channels, data);
}

int _halfToEven(int rest) {
  final half = (rest / 2).floor();
  return rest.isOdd && half.isOdd ? half + 1 : half;
}

void _normalize(Float32List values, int channels, _Step step) {
  Float32List each(String name) {
    final given = (step[name] as List).cast<num>();
    return Float32List.fromList([
      for (var channel = 0; channel < channels; channel++) given[given.length == 1 ? 0 : channel].toDouble(),
    ]);
  }

  final (mean, std) = (each('mean'), each('std'));
  final centred = Float32List(1); // rounds to 32 bits
  for (var index = 0; index < values.length; index++) {
    centred[0] = values[index] - mean[index % channels];
    values[index] = centred[0] / std[index % channels];
  }
}

Float32List _planes(Float32List values, int channels) {
  final size = values.length ~/ channels;
  final found = Float32List(values.length);
  for (var index = 0; index < values.length; index++) {
    found[index % channels * size + index ~/ channels] = values[index];
  }
  return found;
}

RawImage _resize(RawImage image, int width, int height, String resample) {
  if (image.width == width && image.height == height) return image;
  if (resample == 'nearest') return _resizeNearest(image, width, height);
  RawImage down(RawImage one) => _transposed(_resizeRows(_transposed(one), height, resample));
  final less = image.height - height;
  final first = less > 0 && less > 2 * (image.width - width) ? down(image) : image; // as Pillow 13 chooses
  final across = first.width == width ? first : _resizeRows(first, width, resample);
  return across.height == height ? across : down(across);
}

RawImage _resizeNearest(RawImage image, int width, int height) {
  final (columns, rows) = (_nearest(image.width, width), _nearest(image.height, height));
  final channels = image.channels;
  final data = Uint8List(width * height * channels);
  for (var y = 0; y < height; y++) {
    for (var x = 0; x < width; x++) {
      final to = (y * width + x) * channels;
      data.setRange(to, to + channels, image.data, (rows[y] * image.width + columns[x]) * channels);
    }
  }
  return RawImage(width, height, channels, data);
}

/// Places are added up, not multiplied, as Pillow does it.
List<int> _nearest(int size, int wanted) {
  final scale = size / wanted;
  var place = scale * 0.5;
  final found = <int>[];
  for (var index = 0; index < wanted; index++) {
    found.add(place.floor());
    place += scale;
  }
  return found;
}

/// For each new pixel the first old one that it covers, and weights of 22 bits: `precompute_coeffs` of Pillow.
List<(int, List<int>)> _weightsFor(int size, int wanted, String resample) {
  final filter = _filters[resample];
  if (filter == null) throw FormatException('the filter "$resample" is unknown');
  final (reach, weigh) = filter;
  final scale = size / wanted;
  final stretch = max(scale, 1.0);
  final support = reach * stretch;
  final found = <(int, List<int>)>[];
  for (var place = 0; place < wanted; place++) {
    final center = (place + 0.5) * scale;
    final first = max(0, (center - support + 0.5).truncate());
    final last = min(size, (center + support + 0.5).truncate());
    final inverse = 1 / stretch;
    final exact = [for (var x = 0; x < last - first; x++) weigh((x + first - center + 0.5) * inverse)];
    final sum = exact.fold(0.0, (total, weight) => total + weight);
    found.add((
      first,
      [
        for (final weight in exact)
          () {
            final share = (sum == 0 ? weight : weight / sum) * (1 << _precisionBits);
            return (share < 0 ? share - 0.5 : share + 0.5).truncate();
          }(),
      ],
    ));
  }
  return found;
}

RawImage _resizeRows(RawImage image, int width, String resample) {
  final (height, channels) = (image.height, image.channels);
  final data = Uint8List(width * height * channels);
  final all = _weightsFor(image.width, width, resample);
  for (var y = 0; y < height; y++) {
    for (var x = 0; x < width; x++) {
      final (first, weights) = all[x];
      for (var channel = 0; channel < channels; channel++) {
        var sum = 1 << (_precisionBits - 1);
        var from = (y * image.width + first) * channels + channel;
        for (final weight in weights) {
          sum += image.data[from] * weight;
          from += channels;
        }
        data[(y * width + x) * channels + channel] = (sum >> _precisionBits).clamp(0, 255);
      }
    }
  }
  return RawImage(width, height, channels, data);
}

RawImage _transposed(RawImage image) {
  final (width, height, channels) = (image.width, image.height, image.channels);
  final data = Uint8List(image.data.length);
  for (var y = 0; y < height; y++) {
    for (var x = 0; x < width; x++) {
      final to = (x * height + y) * channels;
      data.setRange(to, to + channels, image.data, (y * width + x) * channels);
    }
  }
  return RawImage(height, width, channels, data);
}

double _sinc(double x) => x == 0 ? 1 : sin(x * pi) / (x * pi);

double _hamming(double x) {
  final distance = x.abs();
  if (distance == 0) return 1;
  return distance >= 1 ? 0 : _sinc(distance) * (0.54 + 0.46 * cos(distance * pi));
}

double _bicubic(double x) {
  const a = -0.5;
  final d = x.abs();
  if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
}
