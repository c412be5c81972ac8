import Foundation

/// A bundle that cannot be drawn with, or a request that it does not take.
public struct BundleError: LocalizedError {
    public let message: String
    public var errorDescription: String? { message }

    public init(_ message: String) {
        self.message = message
    }
}

func require(_ holds: Bool, _ message: @autoclosure () -> String) throws {
    if !holds { throw BundleError(message()) }
}

/// What a JSON file holds, decoded as `Value`.
func readJSON<Value: Decodable>(_ type: Value.Type, _ file: URL) throws -> Value {
    do {
        return try JSONDecoder().decode(type, from: Data(contentsOf: file))
    } catch {
        throw BundleError("\(file.lastPathComponent) must be as an export writes it: \(error)")
    }
}
