// The whole effect in one Core ML package: photo, focus point and aperture in, refocused photo out.

import CoreGraphics
import CoreML
import CoreVideo
import VideoToolbox
import Vision

/// Refocuses photos with the package that `deeplens export coreml --whole … --with-depth --image` makes.
actor Refocuser {
    enum Failure: Error {
        case noPackage
        case noPicture
    }

    /// The f-number of the fully open lens: aperture 1.
    static let openFNumber: Float = 1.4

    /// Height and width of the functions in the package, upright and turned.
    static let sizes = [(height: 768, width: 1024), (height: 1024, width: 768)]

    private var models: [String: MLModel] = [:]

    /// The photo with a shallow depth of field.
    ///
    /// - Parameters:
    ///   - photo: sRGB, turned as it is to be seen. It is cropped to 4:3 and resized.
    ///   - focus: the point that is sharp, x and y from 0 to 1, from the top left.
    ///   - fNumber: 1.4 (most blur) or more.
    func refocus(_ photo: CGImage, focus: CGPoint, fNumber: Float) async throws -> CGImage {
        let size = photo.width >= photo.height ? Self.sizes[0] : Self.sizes[1]
        let model = try model(function: "size_\(size.height)x\(size.width)")
        let picture = try MLFeatureValue(
            cgImage: photo,
            pixelsWide: size.width,
            pixelsHigh: size.height,
            pixelFormatType: kCVPixelFormatType_32BGRA,
            options: [.cropAndScale: VNImageCropAndScaleOption.centerCrop.rawValue]
        )
        let aperture = min(1, Self.openFNumber / fNumber)
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "picture": picture,
            "focus": Self.numbers([Float(focus.x), Float(focus.y)]),
            "aperture": Self.numbers([aperture]),
        ])
        let outputs = try await model.prediction(from: inputs)
        guard let buffer = outputs.featureValue(for: "refocused")?.imageBufferValue else {
            throw Failure.noPicture
        }
        var image: CGImage?
        VTCreateCGImageFromCVPixelBuffer(buffer, options: nil, imageOut: &image)
        guard let image else {
            throw Failure.noPicture
        }
        return image
    }

    /// The function of the package for one size, loaded once. The first load takes seconds: the system compiles it.
    private func model(function: String) throws -> MLModel {
        if let known = models[function] {
            return known
        }
        guard let url = Bundle.main.url(forResource: "DeepLens", withExtension: "mlmodelc") else {
            throw Failure.noPackage
        }
        let configuration = MLModelConfiguration()
        configuration.functionName = function
        configuration.computeUnits = .all
        let model = try MLModel(contentsOf: url, configuration: configuration)
        models[function] = model
        return model
    }

    /// An input of shape 1 × count × 1 × 1.
    private static func numbers(_ values: [Float]) throws -> MLFeatureValue {
        let array = try MLMultiArray(shape: [1, NSNumber(value: values.count), 1, 1], dataType: .float16)
        for (place, value) in values.enumerated() {
            array[place] = NSNumber(value: value)
        }
        return MLFeatureValue(multiArray: array)
    }
}
