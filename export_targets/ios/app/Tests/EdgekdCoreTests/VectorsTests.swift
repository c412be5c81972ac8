import XCTest

@testable import EdgekdCore

/// The core against `vectors.json`, which Python made with transformers, torch and diffusers.
///
/// The file lies beside this one in a bundle, else in `export_targets/testdata`. The variables
/// EDGEKD_TOKENIZER_STARTER and EDGEKD_TOKENIZER_CLIP name folders of tokenizers.
final class VectorsTests: XCTestCase {
    func testTokens() throws {
        var compared = 0
        for name in ["starter", "clip"] {
            guard let folder = ProcessInfo.processInfo.environment["EDGEKD_TOKENIZER_\(name.uppercased())"]
            else { continue }
            let tokenizer = try Tokenizer(folder: URL(fileURLWithPath: folder))
            for entry in try vectors().tokens where entry.tokenizer == name {
                XCTAssertEqual(tokenizer.encode(entry.prompt).ids, entry.ids, entry.prompt.debugDescription)
                compared += 1
            }
        }
        try XCTSkipIf(compared == 0, "no tokenizer is named")
    }

    func testNoise() throws {
        for entry in try vectors().noise {
            var random = TorchRandom(seed: entry.seed)
            let found = random.normal(entry.shape.reduce(1, *))
            let told = entry.values ?? entry.head!
            assertClose(Array(found.prefix(told.count)), told, 3e-6)
            if let tail = entry.tail { assertClose(found.suffix(tail.count), tail, 3e-6) }
            if let sum = entry.sum {
                XCTAssertEqual(found.reduce(0) { $0 + Double($1) }, sum, accuracy: 1e-2)
            }
        }
    }

    func testTrajectories() throws {
        for entry in try vectors().trajectories {
            let sampler = try makeSampler(entry.scheduler, steps: entry.steps)
            assertClose(sampler.timesteps, entry.timesteps, 1e-3)
            var random = TorchRandom(seed: entry.seed)
            let size = entry.shape.reduce(1, *)
            var x = random.normal(size).map { $0 * sampler.initialScale }
            for (index, told) in entry.latents.enumerated() {
                let output = toyUnet(sampler.modelInput(x, index), sampler.timesteps[index])
                x = sampler.step(output, x, index) { random.normal(size) }
                assertClose(x, told, 1e-5 * told.map(abs).max()!)
            }
        }
    }

    /// The whole pipeline around a stand-in for the models follows a trajectory to its end.
    func testPipeline() throws {
        guard let tokenizer = ProcessInfo.processInfo.environment["EDGEKD_TOKENIZER_STARTER"] else {
            throw XCTSkip("no tokenizer is named")
        }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let raw = try JSONSerialization.jsonObject(with: Data(contentsOf: vectorsFile())) as! [String: Any]
        let rows = raw["trajectories"] as! [[String: Any]]
        for (index, entry) in try vectors().trajectories.enumerated() where entry.steps == 4 {
            try writeModel(folder, rows[index]["scheduler"]!, entry)
            let runner = StandIn()
            let pipeline = Pipeline(
                try Model(folder: folder), try Tokenizer(folder: URL(fileURLWithPath: tokenizer)), runner)
            let picture = try pipeline.draw(Request(prompt: "red apple", seed: entry.seed))
            assertClose(runner.decoded.map { $0 * 2 }, entry.latents.last!, 1e-4)
            XCTAssertEqual([UInt8](picture.pixels.prefix(3)), [0, 128, 255])
        }
        let path = folder.appendingPathComponent("weights")
        try Data("damaged".utf8).write(to: path)
        XCTAssertThrowsError(try Model(folder: folder)) {
            XCTAssertTrue($0.localizedDescription.contains("weights has 7 bytes instead of 5"))
        }
        try Data("dizes".utf8).write(to: path)
        XCTAssertThrowsError(try Model(folder: folder)) {
            XCTAssertTrue($0.localizedDescription.contains("weights is damaged"))
        }
        try FileManager.default.removeItem(at: path)
        XCTAssertThrowsError(try Model(folder: folder)) {
            XCTAssertTrue($0.localizedDescription.contains("weights is missing"))
        }
    }

    private func writeModel(_ folder: URL, _ scheduler: Any, _ entry: Vectors.Trajectory) throws {
        // SHA-256 of "sizes".
        let hash = sha256Hex(Data("sizes".utf8))
        try Data("sizes".utf8).write(to: folder.appendingPathComponent("weights"))
        let facts: [String: Any] = [
            "format": 1, "name": "toy", "source": "", "is_sdxl": false,
            "generation": ["steps": entry.steps, "guidance_scale": 1.0, "height": 3, "width": 3],
            "sides": ["multiple": 1, "dynamic": false],
            "latents": ["channels": 2, "scale": 1, "factor": 2.0],
            "scheduler": scheduler, "files": ["weights": ["bytes": 5, "sha256": hash]],
        ]
        let data = try JSONSerialization.data(withJSONObject: facts)
        try data.write(to: folder.appendingPathComponent(Model.file))
    }
}

/// The toy U-Net of the vectors; its pictures are black, grey and white by channel.
private final class StandIn: Runner {
    var decoded: [Float] = []

    func encode(_ ids: [Int]) -> Tensor { Tensor(ids.map { Float($0) }, [1, ids.count, 1]) }

    func predict(_ sample: Tensor, _ timestep: Float, _ conditions: [Condition]) -> [[Float]] {
        conditions.map { _ in toyUnet(sample.values, timestep) }
    }

    func decode(_ latents: Tensor) -> [Float] {
        decoded = latents.values
        let count = latents.shape[2] * latents.shape[3]
        return [Float](repeating: -2, count: count) + [Float](repeating: 0.003, count: count)
            + [Float](repeating: 1, count: count)
    }
}

private func toyUnet(_ sample: [Float], _ timestep: Float) -> [Float] {
    let wave = Float(0.1 * cos(Double(timestep) / 100))
    return sample.map { 0.5 * tanh($0) + wave }
}

private func assertClose(
    _ found: some Collection<Float>, _ told: [Float], _ tolerance: Float, line: UInt = #line
) {
    XCTAssertEqual(found.count, told.count, line: line)
    let worst = zip(found, told).map { abs($0 - $1) }.max() ?? 0
    XCTAssertLessThanOrEqual(worst, tolerance, line: line)
}

private func vectorsFile() -> URL {
    let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let beside = here.appendingPathComponent("vectors.json")
    if FileManager.default.fileExists(atPath: beside.path) { return beside }
    return (0..<4).reduce(here) { folder, _ in folder.deletingLastPathComponent() }
        .appendingPathComponent("testdata/vectors.json")
}

private func vectors() throws -> Vectors {
    try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: vectorsFile()))
}

private struct Vectors: Decodable {
    let tokens: [Words]
    let noise: [Noise]
    let trajectories: [Trajectory]

    struct Words: Decodable {
        let tokenizer: String
        let prompt: String
        let ids: [Int]

        enum CodingKeys: String, CodingKey {
            case tokenizer, prompt
            case ids = "input_ids"
        }
    }

    struct Noise: Decodable {
        let seed: UInt64
        let shape: [Int]
        let values, head, tail: [Float]?
        let sum: Double?
    }

    struct Trajectory: Decodable {
        let scheduler: SchedulerConfig
        let steps: Int
        let timesteps: [Float]
        let seed: UInt64
        let shape: [Int]
        let latents: [[Float]]
    }
}
