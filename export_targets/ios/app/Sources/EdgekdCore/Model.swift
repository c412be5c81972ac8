import Foundation

/// `model.json` of a bundle: how to draw, and size and hash of every file beside it.
public struct Model {
    public static let file = "model.json"
    public let folder: URL
    public let facts: Facts

    /// Opens a folder; every file is held against its hash first.
    public init(folder: URL) throws {
        let path = folder.appendingPathComponent(Self.file)
        guard FileManager.default.fileExists(atPath: path.path) else {
            throw BundleError("`\(folder.lastPathComponent)` must hold \(Self.file)")
        }
        facts = try readJSON(Facts.self, path)
        self.folder = folder
        try facts.check()
        for (name, file) in facts.files.sorted(by: { $0.key < $1.key }) {
            try file.check(name, in: folder)
        }
    }

    /// How pictures are drawn, as the student was trained; sides in pixels.
    public struct Generation: Decodable {
        public let steps: Int
        public let guidanceScale: Double
        public let height: Int
        public let width: Int
    }

    /// Picture sides that can be drawn: the native ones, or multiples where dynamic.
    public struct Sides: Decodable {
        public let multiple: Int
        public let dynamic: Bool
    }

    /// Channels; picture side over latent side; what latents are divided by before decoding.
    public struct Latents: Decodable {
        public let channels: Int
        public let scale: Int
        public let factor: Float
    }

    public struct Facts: Decodable {
        let format: Int
        public let name: String
        public let source: String
        let isXL: Bool
        public let guidanceWidth: Int?
        public let generation: Generation
        public let sides: Sides
        public let latents: Latents
        public let scheduler: SchedulerConfig
        let files: [String: ListedFile]

        func check() throws {
            try require(format == 1, "`\(Model.file)` must be of format 1, but got \(format)")
            try require(!isXL, "the app does not draw with pipelines of the XL kind")
            try require(
                (1...64).contains(latents.channels) && (1...256).contains(latents.scale)
                    && latents.factor > 0 && sides.multiple >= 1,
                "`\(Model.file)` must tell usable sizes")
        }

        enum CodingKeys: String, CodingKey {
            case format, name, source, generation, sides, latents, scheduler, files
            case isXL = "is_sdxl"
            case guidanceWidth = "guidance_width"
        }
    }
}

extension Model.Generation {
    enum CodingKeys: String, CodingKey {
        case steps, height, width
        case guidanceScale = "guidance_scale"
    }
}

/// What one file of a model must be.
struct ListedFile: Decodable {
    let bytes: Int
    let sha256: String

    /// Whether the file is there, whole and unchanged; throws what is wrong.
    func check(_ name: String, in folder: URL) throws {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        if parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) || name.contains("\\") {
            throw BundleError("`files` of \(Model.file) must lie beside it, but got \(name)")
        }
        func fail(_ what: String) -> BundleError {
            BundleError("the model must be whole, but \(name) \(what): copy it again")
        }
        guard
            let data = try? Data(contentsOf: folder.appendingPathComponent(name), options: .mappedIfSafe)
        else { throw fail("is missing") }
        if data.count != bytes { throw fail("has \(data.count) bytes instead of \(bytes)") }
        if sha256Hex(data) != sha256 { throw fail("is damaged") }
    }
}
