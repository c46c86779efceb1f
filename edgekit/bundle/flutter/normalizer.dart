/// Text as a tokenizer wants it, by the steps of compiled.json; every Unicode fact is in its tables.
/// A port of edgekit's reference/normalizer.py, step by step.
library;

import 'dart:convert';
import 'dart:math';

typedef Change = String Function(String text);
typedef Step = Map<String, dynamic>;

// Hangul syllables by arithmetic: the Unicode Standard, section 3.12.
const _syllables = 0xAC00;
const _leading = 0x1100;
const _vowels = 0x1161;
const _trailing = 0x11A7;
const _vowelCount = 21;
const _trailingCount = 28;
const _syllableCount = 11172;
const _leadingCount = 19;
const _clusterBytes = 6; // SentencePiece's map is asked for whole clusters that are shorter than this
const _jamo = [
  ('L', 0x1100, 0x115F),
  ('V', 0x1160, 0x11A7),
  ('T', 0x11A8, 0x11FF),
  ('L', 0xA960, 0xA97C),
  ('V', 0xD7B0, 0xD7C6),
  ('T', 0xD7CB, 0xD7FB),
];
const _joined = {'L L', 'L V', 'L LV', 'L LVT', 'LV V', 'V V', 'LV T', 'V T', 'LVT T', 'T T'};

/// Runs of code points, sorted, each with the value behind its first and last.
class Table {
  Table(dynamic entries) : _entries = (entries as List).cast<List<dynamic>>();

  final List<List<dynamic>> _entries;

  bool has(int code) => _place(code) >= 0;

  /// The value of a code point; null where it has none.
  dynamic of(int code) {
    final place = _place(code);
    return place < 0 ? null : _entries[place][2];
  }

  int _place(int code) {
    var low = 0;
    var high = _entries.length;
    while (low < high) {
      final middle = (low + high) ~/ 2;
      if ((_entries[middle][0] as int) <= code) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low > 0 && code <= (_entries[low - 1][1] as int) ? low - 1 : -1;
  }
}

Change makeNormalizer(List<dynamic> steps) {
  final changes = [for (final step in steps) _makeStep(step as Step)];
  return (text) => changes.fold(text, (result, change) => change(result));
}

Change _makeStep(Step step) => switch (step['op']) {
      'map' => _makeMap(step),
      'reorder' => _makeReorder(Table(step['classes'])),
      'compose' => _makeCompose(step),
      'charsmap' => _makeCharsmap(step),
      'replace' => (text) => text.replaceAll(step['old'] as String, step['new'] as String),
      'squeeze' => _makeSqueeze(step['least'] as int, step['new'] as String),
      'strip' => _makeStrip(step),
      'prepend' => (text) => text.isEmpty ? text : '${step['text']}$text',
      final op => throw FormatException('the tokenizer has the step "$op", which is unknown'),
    };

/// Each character by itself: replaced, surrounded by spaces, a Hangul syllable taken apart, or kept.
Change _makeMap(Step step) {
  final replaced = Table(step['replace']);
  final surrounded = Table(step['surround']);
  final hangul = step['hangul'] as bool;
  return (text) {
    final found = StringBuffer();
    for (final code in text.runes) {
      final replacement = replaced.of(code);
      if (replacement != null) {
        found.write(replacement);
      } else if (surrounded.has(code)) {
        found.write(' ${String.fromCharCode(code)} ');
      } else if (hangul && code >= _syllables && code < _syllables + _syllableCount) {
        found.write(_apart(code));
      } else {
        found.writeCharCode(code);
      }
    }
    return found.toString();
  };
}

String _apart(int code) {
  final place = code - _syllables;
  final rest = place ~/ _trailingCount;
  final trailing = place % _trailingCount;
  return String.fromCharCodes([
    _leading + rest ~/ _vowelCount,
    _vowels + rest % _vowelCount,
    if (trailing > 0) _trailing + trailing,
  ]);
}

/// Marks behind a letter in the order of their combining classes, those of one class as they were.
Change _makeReorder(Table classes) => (text) {
      final found = <int>[];
      final run = <(int, int, int)>[]; // class, place in the run, code point
      void flush() {
        run.sort((one, other) => one.$1 != other.$1 ? one.$1 - other.$1 : one.$2 - other.$2);
        found.addAll(run.map((entry) => entry.$3));
        run.clear();
      }

      for (final code in text.runes) {
        final kind = classes.of(code) as int?;
        if (kind == null) {
          flush();
          found.add(code);
        } else {
          run.add((kind, run.length, code));
        }
      }
      flush();
      return String.fromCharCodes(found);
    };

/// Letters and the marks behind them joined where there is a character for both; Hangul, too.
Change _makeCompose(Step step) {
  final classes = Table(step['classes']);
  final wholes = {
    for (final pair in (step['pairs'] as List).cast<List<dynamic>>()) (pair[0] as int, pair[1] as int): pair[2] as int,
  };
  return (text) {
    final found = <int>[];
    var starter = -1; // place of the letter that marks are joined to
    var last = -1; // class of the character before this one; -1 where that is the letter
    for (final code in text.runes) {
      final kind = (classes.of(code) as int?) ?? 0;
      if (starter >= 0 && (last < 0 || last < kind)) {
        final whole = _join(found[starter], code, wholes);
        if (whole != null) {
          found[starter] = whole;
          continue;
        }
      }
      if (kind == 0) {
        starter = found.length;
        last = -1;
      } else {
        last = kind;
      }
      found.add(code);
    }
    return String.fromCharCodes(found);
  };
}

int? _join(int one, int other, Map<(int, int), int> wholes) {
  final (leading, vowel) = (one - _leading, other - _vowels);
  if (leading >= 0 && leading < _leadingCount && vowel >= 0 && vowel < _vowelCount) {
    return _syllables + (leading * _vowelCount + vowel) * _trailingCount;
  }
  final (syllable, trailing) = (one - _syllables, other - _trailing);
  final open = syllable >= 0 && syllable < _syllableCount && syllable % _trailingCount == 0;
  if (open && trailing > 0 && trailing < _trailingCount) return one + trailing;
  return wholes[(one, other)];
}

/// SentencePiece's map of strings, asked for each short cluster of characters, then for each character.
Change _makeCharsmap(Step step) {
  final strings = {
    for (final entry in (step['map'] as List).cast<List<dynamic>>()) entry[0] as String: entry[1] as String,
  };
  final longest = strings.keys.fold(0, (most, key) => max(most, key.runes.length));
  final (extend, prepend, control) = (Table(step['extend']), Table(step['prepend']), Table(step['control']));
  String? lookup(List<int> cluster) {
    for (var length = 1; length <= min(cluster.length, longest); length++) {
      final found = strings[String.fromCharCodes(cluster.take(length))];
      if (found != null) return found;
    }
    return null;
  }

  bool breaks(int before, int after) {
    if (before == 0x0D && after == 0x0A) return false;
    if (control.has(before) || control.has(after)) return true;
    return !(extend.has(after) || prepend.has(before) || _joined.contains('${_jamoKind(before)} ${_jamoKind(after)}'));
  }

  return (text) {
    final codes = text.runes.toList();
    final found = StringBuffer();
    var start = 0;
    for (var stop = 1; stop <= codes.length; stop++) {
      if (stop < codes.length && !breaks(codes[stop - 1], codes[stop])) continue;
      final cluster = codes.sublist(start, stop);
      final short = utf8.encode(String.fromCharCodes(cluster)).length < _clusterBytes;
      final whole = short ? lookup(cluster) : null;
      if (whole != null) {
        found.write(whole);
      } else {
        for (final code in cluster) {
          found.write(lookup([code]) ?? String.fromCharCode(code));
        }
      }
      start = stop;
    }
    return found.toString();
  };
}

String _jamoKind(int code) {
  if (code >= _syllables && code < _syllables + _syllableCount) {
    return (code - _syllables) % _trailingCount == 0 ? 'LV' : 'LVT';
  }
  for (final (kind, first, last) in _jamo) {
    if (first <= code && code <= last) return kind;
  }
  return '';
}

Change _makeSqueeze(int least, String replacement) {
  final spaces = RegExp(' +');
  return (text) => text.replaceAllMapped(spaces, (run) => run[0]!.length >= least ? replacement : run[0]!);
}

Change _makeStrip(Step step) {
  final space = Table(step['space']);
  final (left, right) = (step['left'] as bool, step['right'] as bool);
  return (text) {
    final codes = text.runes.toList();
    var start = 0;
    var stop = codes.length;
    while (left && start < stop && space.has(codes[start])) {
      start++;
    }
    while (right && stop > start && space.has(codes[stop - 1])) {
      stop--;
    }
    return String.fromCharCodes(codes, start, stop);
  };
}
