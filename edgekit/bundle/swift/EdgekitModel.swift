// A bundle as a model: raw input in, labels with scores out. What does it is the C beside this file, which knows the
// tokenizers, resizes images and calls ONNX Runtime; this is its shape in Swift.

import CEdgekitModel
import CoreGraphics
import Foundation

/// A class and how likely it is.
public struct Prediction: Equatable, Sendable {
    public let label: String
    public let score: Double
}

/// What went wrong, in one line.
public struct ModelError: Error, CustomStringConvertible {
    public let description: String
}

/// Pixels row by row, 8 bits a channel: 3 channels (RGB) or 1.
public struct RawImage: Sendable {
    public let width: Int
    public let height: Int
    public let channels: Int
    public let pixels: [UInt8]

    public init(width: Int, height: Int, channels: Int, pixels: [UInt8]) throws {
        guard width > 0, height > 0, pixels.count == width * height * channels else {
            throw ModelError(description: "\(pixels.count) bytes for \(width) x \(height) x \(channels)")
        }
        self.width = width
        self.height = height
        self.channels = channels
        self.pixels = pixels
    }

    /// The pixels of an image, drawn on white.
    public init(_ image: CGImage) throws {
        let (width, height) = (image.width, image.height)
        let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: width * 4,
            space: CGColorSpaceCreateDeviceRGB(), bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
        guard let context else { throw ModelError(description: "the image cannot be drawn") }
        context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
        context.fill(CGRect(x: 0, y: 0, width: width, height: height))
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        guard let data = context.data else { throw ModelError(description: "the image cannot be drawn") }
        let shown = UnsafeRawBufferPointer(start: data, count: width * height * 4)
        var pixels: [UInt8] = []
        pixels.reserveCapacity(width * height * 3)
        for pixel in 0..<(width * height) {
            pixels.append(contentsOf: shown[(pixel * 4)..<(pixel * 4 + 3)])
        }
        try self.init(width: width, height: height, channels: 3, pixels: pixels)
    }
}

/// A loaded bundle. Several threads may ask it at once.
public final class Model: @unchecked Sendable {
    private let pointer: OpaquePointer

    /// The bundle that this package carries.
    public static var bundled: URL {
        get throws {
            guard let url = Bundle.module.url(forResource: "bundle", withExtension: nil) else {
                throw ModelError(description: "the package has no folder bundle among its resources")
            }
            return url
        }
    }

    /// Load the bundle in a folder, the one with bundle.json; that of this package by default.
    public init(folder: URL? = nil, threads: Int = 1) throws {
        let path = try (folder ?? Model.bundled).path
        pointer = try Model.told { why in edgekit_load(path, Int32(threads), why) }
    }

    deinit {
        edgekit_free(pointer)
    }

    /// The names of the classes, in the order of the model's output.
    public var labels: [String] {
        (0..<edgekit_label_count(pointer)).map { String(cString: edgekit_label(pointer, $0)) }
    }

    /// Labels with scores of a text, or of two, the best first.
    public func predict(_ text: String, pair: String? = nil) throws -> [Prediction] {
        try predictions { best, most, why in edgekit_predict_text(pointer, text, pair, best, most, why) }
    }

    /// Labels with scores of an image, the best first.
    public func predict(_ image: RawImage) throws -> [Prediction] {
        try predictions { best, most, why in
            edgekit_predict_image(
                pointer, image.pixels, Int32(image.width), Int32(image.height), Int32(image.channels), best, most, why)
        }
    }

    /// What is wrong with a bundle, one line each; nothing when all is well.
    public static func selfTest(folder: URL? = nil) throws -> [String] {
        let path = try (folder ?? bundled).path
        let lines = Lines()
        let user = Unmanaged.passUnretained(lines).toOpaque()
        let tell: @convention(c) (UnsafePointer<CChar>?, UnsafeMutableRawPointer?) -> Void = { line, user in
            guard let line, let user else { return }
            Unmanaged<Lines>.fromOpaque(user).takeUnretainedValue().all.append(String(cString: line))
        }
        _ = withExtendedLifetime(lines) { edgekit_self_test(path, tell, user) }
        return lines.all
    }

    private final class Lines {
        var all: [String] = []
    }

    private func predictions(
        _ ask: (UnsafeMutablePointer<edgekit_prediction>?, Int32, UnsafeMutablePointer<CChar>?) -> Int32
    ) throws -> [Prediction] {
        let most = edgekit_label_count(pointer)
        var best = [edgekit_prediction](repeating: edgekit_prediction(), count: Int(most))
        let count: Int32 = try Model.told { why in
            let found = ask(&best, most, why)
            return found < 0 ? nil : found
        }
        return best.prefix(Int(count)).map { Prediction(label: String(cString: $0.label), score: $0.score) }
    }

    /// What a call gives, or the reason why it gives nothing.
    private static func told<Found>(_ call: (UnsafeMutablePointer<CChar>?) -> Found?) throws -> Found {
        var why = [CChar](repeating: 0, count: Int(EDGEKIT_ERROR))
        guard let found = call(&why) else { throw ModelError(description: String(cString: why)) }
        return found
    }
}
