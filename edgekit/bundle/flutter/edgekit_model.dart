/// A bundled model: raw input in, labels with scores out.
library;

export 'src/bundle.dart' show loadModel, selfTest;
export 'src/images.dart' show RawImage;
export 'src/model.dart' show Model, Prediction;
