"""The errors of SelectObjectContent, as its API reference lists them."""

from __future__ import annotations

from ..errors import S3Error

MESSAGES = {
    "Busy": "The service is unavailable. Try again later.",
    "CSVParsingError": "Encountered an error parsing the CSV file. Check the file and try again.",
    "CastFailed": "Attempt to convert from one data type to another using CAST failed in the SQL "
    "expression.",
    "EvaluatorInvalidArguments": "Incorrect number of arguments in the function call in the SQL "
    "expression.",
    "EvaluatorInvalidTimestampFormatPattern": "Timestamp format pattern is not valid.",
    "ExpressionTooLong": "The SQL expression is too long: The maximum byte-length for the SQL "
    "expression is 256 KB.",
    "IllegalSqlFunctionArgument": "Illegal argument was used in the SQL function.",
    "InternalError": "We encountered an internal error. Please try again.",
    "InvalidColumnIndex": "The column index in the SQL expression is not valid.",
    "InvalidCompressionFormat": "The file is not in a supported compression format. Only GZIP and "
    "BZIP2 are supported.",
    "InvalidDataSource": "The data source is not valid. Only CSV, JSON, and Parquet are supported.",
    "InvalidExpressionType": "The ExpressionType is not valid. Only SQL expressions are supported.",
    "InvalidFileHeaderInfo": "The FileHeaderInfo is not valid. Only NONE, USE, and IGNORE are "
    "supported.",
    "InvalidJsonType": "The JsonType is not valid. Only DOCUMENT and LINES are supported.",
    "InvalidQuoteFields": "The QuoteFields is not valid. Only ALWAYS and ASNEEDED are supported.",
    "InvalidRequestParameter": "The value of a parameter in the SelectRequest element is not "
    "valid.",
    "InvalidScanRange": "The provided scan range is not valid.",
    "InvalidTextEncoding": "Invalid encoding type. Only UTF-8 encoding is supported.",
    "JSONParsingError": "Encountered an error parsing the JSON file. Check the file and try again.",
    "LexerInvalidChar": "The SQL expression contains a character that is not valid.",
    "LexerInvalidIONLiteral": "The SQL expression contains an Ion literal that is not valid.",
    "LikeInvalidInputs": "Invalid argument given to the LIKE clause in the SQL expression.",
    "MissingHeaders": "Some headers in the query are missing from the file. Check the file and try "
    "again.",
    "MissingRequiredParameter": "The SelectRequest entity is missing a required parameter.",
    "ObjectSerializationConflict": "InputSerialization and OutputSerialization must each name "
    "exactly one format.",
    "OverMaxRecordSize": "The character number in one record is more than our max threshold, "
    "maxCharsPerRecord: 1,048,576.",
    "ParquetParsingError": "Error parsing the Parquet file. Check the file and try again.",
    "ParseExpectedDatePart": "Did not find the expected date part in the SQL expression.",
    "ParseExpectedIdentForAlias": "Did not find the expected identifier in the SQL expression.",
    "ParseExpectedKeyword": "Did not find the expected keyword in the SQL expression.",
    "ParseExpectedNumber": "Did not find the expected number in the SQL expression.",
    "ParseExpectedTokenType": "Did not find the expected token in the SQL expression.",
    "ParseExpectedTypeName": "Did not find the expected type name in the SQL expression.",
    "ParseExpectedWhenClause": "Did not find the expected WHEN clause in the SQL expression.",
    "ParseInvalidPathComponent": "The SQL expression contains a path component that is not valid.",
    "ParseUnexpectedToken": "The SQL expression contains an unexpected token.",
    "TruncatedInput": "Object decompression failed. Check that the object is properly compressed "
    "using the format specified in the request.",
    "UnsupportedFunction": "Encountered an unsupported SQL function.",
    "UnsupportedParquetType": "The specified Parquet type is not supported.",
    "UnsupportedScanRangeInput": "Scan range queries are not supported on this type of object.",
    "UnsupportedSqlStructure": "Encountered an unsupported SQL structure. Check the SQL Reference.",
    "ValueParseFailure": "Timestamp parse failure in the SQL expression.",
}


class SelectError(S3Error):
    """One of them; all are 400 but Busy and InternalError."""

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(
            "InvalidRequest",
            message or MESSAGES[code],
            status={"Busy": 503, "InternalError": 500}.get(code, 400),
        )
        self.code = code
        self.args = (f"{code}: {self.message}",)
