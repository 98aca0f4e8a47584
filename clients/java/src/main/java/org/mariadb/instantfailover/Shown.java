package org.mariadb.instantfailover;

/** How values are shown in errors. */
final class Shown {
  /** The most characters of a value that an error shows. */
  private static final int MAX_CHARACTERS = 60;

  private Shown() {}

  /**
   * The value in single quotes; a long one is cut and ends with {@code ...}. Control characters and
   * characters beyond U+FFFF are escaped.
   */
  static String quoted(String value) {
    StringBuilder shown = new StringBuilder("'");
    int left = MAX_CHARACTERS;
    for (int character : value.codePoints().toArray()) {
      String piece =
          Character.isISOControl(character) || character > 0xffff
              ? String.format("\\u{%x}", character)
              : String.valueOf((char) character);
      if (piece.length() > left) {
        shown.append("...");
        break;
      }
      left -= piece.length();
      shown.append(piece);
    }
    return shown.append('\'').toString();
  }
}
