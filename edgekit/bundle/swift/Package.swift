// swift-tools-version: $swift_tools

import PackageDescription

let package = Package(
    name: "EdgekitModel",
    platforms: [.iOS(.v$ios), .macOS(.v$macos)],
    products: [.library(name: "EdgekitModel", targets: ["EdgekitModel"])],
    dependencies: [
        .package(
            url: "https://github.com/microsoft/onnxruntime-swift-package-manager",
            exact: "$onnxruntime_swift_package_manager")
    ],
    targets: [
        .target(
            name: "CEdgekitModel",
            dependencies: [.product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")]),
        .target(name: "EdgekitModel", dependencies: ["CEdgekitModel"], resources: [.copy("bundle")]),
        .testTarget(name: "EdgekitModelTests", dependencies: ["EdgekitModel"]),
    ]
)
