// swift-tools-version:5.9
import PackageDescription

// As the iPhone's, with the window, whose sources that bundle lacks: SwiftPM refuses such a target.
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
        .executableTarget(name: "edgekd-pictures", dependencies: ["EdgekdPictures"]),
        .testTarget(name: "EdgekdCoreTests", dependencies: ["EdgekdCore"]),
    ]
)
