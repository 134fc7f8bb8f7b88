"""The pair's certificates: read and judged, made, and the CAs that the operator's machine keeps."""
