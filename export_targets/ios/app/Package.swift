// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "EdgekdPictures",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "EdgekdPictures", targets: ["EdgekdCore", "EdgekdPictures"])
    ],
    targets: [
        // Tokenizer, noise, samplers and pipeline: no Core ML, tested on Linux too.
        .target(name: "EdgekdCore"),
        .target(name: "EdgekdPictures", dependencies: ["EdgekdCore"]),
        .testTarget(name: "EdgekdCoreTests", dependencies: ["EdgekdCore"]),
    ]
)
