import XCTest

@testable import EdgekitModel

final class SelfTestTests: XCTestCase {
    func testTheBundleAnswersAsItDidWhereItWasMade() throws {
        XCTAssertEqual(try Model.selfTest(), [])
    }
}
