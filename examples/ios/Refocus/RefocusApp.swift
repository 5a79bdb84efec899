// A photo from the library; a tap sets the focus, a slider the f-number.

import PhotosUI
import SwiftUI

@main
struct RefocusApp: App {
    var body: some Scene {
        WindowGroup {
            RefocusView()
        }
    }
}

struct RefocusView: View {
    @State private var item: PhotosPickerItem?
    @State private var photo: CGImage?
    @State private var result: CGImage?
    @State private var focus = CGPoint(x: 0.5, y: 0.5)
    @State private var fNumber: Float = 1.4
    @State private var message = "Choose a photo, then tap what should be sharp."
    private let refocuser = Refocuser()

    var body: some View {
        VStack {
            if let shown = result ?? photo {
                Image(decorative: shown, scale: 1)
                    .resizable()
                    .aspectRatio(contentMode: .fit)
                    .overlay {
                        GeometryReader { frame in
                            Color.clear.contentShape(Rectangle()).onTapGesture { place in
                                focus = CGPoint(x: place.x / frame.size.width, y: place.y / frame.size.height)
                                refocus()
                            }
                        }
                    }
            }
            Text(message)
            Slider(value: $fNumber, in: 1.4...16) { editing in
                if !editing {
                    refocus()
                }
            }
            PhotosPicker("Choose a photo", selection: $item, matching: .images)
        }
        .padding()
        .onChange(of: item) {
            Task {
                let data = try? await item?.loadTransferable(type: Data.self)
                photo = data.flatMap { UIImage(data: $0)?.upright }
                result = nil
                refocus()
            }
        }
    }

    private func refocus() {
        guard let photo else {
            return
        }
        Task {
            do {
                result = try await refocuser.refocus(photo, focus: focus, fNumber: fNumber)
                message = "f/" + fNumber.formatted(.number.precision(.fractionLength(1)))
            } catch {
                message = "This did not work: \(error)"
            }
        }
    }
}

extension UIImage {
    /// The picture turned as its orientation says and cropped to the 4:3 or 3:4 that the package takes.
    var upright: CGImage? {
        let wide = size.width >= size.height
        let ratio: CGFloat = wide ? 4.0 / 3.0 : 3.0 / 4.0
        let width = min(size.width, size.height * ratio)
        let height = width / ratio
        let format = UIGraphicsImageRendererFormat()
        format.scale = 1
        let renderer = UIGraphicsImageRenderer(size: CGSize(width: width, height: height), format: format)
        return renderer.image { _ in
            draw(at: CGPoint(x: (width - size.width) / 2, y: (height - size.height) / 2))
        }.cgImage
    }
}
