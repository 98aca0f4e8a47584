package org.mariadb.instantfailover;

import java.sql.SQLException;
import java.util.regex.Pattern;

/** What a server said when it refused a connection, as Connector/J reports it. */
final class Refusal {
  /**
   * What Connector/J writes before a message. It proves nothing: a server can send the same text.
   */
  private static final Pattern CONNECTION_ID = Pattern.compile("^\\(conn=-?\\d+\\) ");

  /** The method of Connector/J, in all versions, that sends the login and reads the answer. */
  private static final String LOGIN = "authenticationHandler";

  /** The method that sends the first commands, such as {@code initSql}. */
  private static final String COMMANDS = "postConnectionQueries";

  private final SQLException error;
  private final SQLException innermost;

  Refusal(SQLException error) {
    this.error = error;
    SQLException inner = error;
    while (inner.getCause() instanceof SQLException) {
      inner = (SQLException) inner.getCause();
    }
    this.innermost = inner;
  }

  /** As the program would get it. */
  SQLException error() {
    return error;
  }

  /** The message as the server sent it. */
  String message() {
    String message = innermost.getMessage();
    return message == null ? "" : CONNECTION_ID.matcher(message).replaceFirst("");
  }

  /** Whether this has the form of a redirect, and is not the error of a command. */
  boolean isRedirect() {
    return Route.isRedirect(innermost.getErrorCode(), message()) && !comesFrom(COMMANDS);
  }

  /**
   * Whether the server answered the login: TLS is in place if the program wants it. An error in the
   * place of the greeting is no answer; anyone on the network can send one, even if the program
   * uses TLS.
   */
  boolean answersLogin() {
    return comesFrom(LOGIN);
  }

  private boolean comesFrom(String method) {
    for (StackTraceElement frame : innermost.getStackTrace()) {
      if (frame.getClassName().startsWith("org.mariadb.jdbc.")
          && frame.getMethodName().equals(method)) {
        return true;
      }
    }
    return false;
  }

  /** The error with a note behind its message: of the same class, with code and state. */
  SQLException with(String note) {
    String message = error.getMessage() + note;
    String state = error.getSQLState();
    int code = error.getErrorCode();
    SQLException noted;
    try {
      noted =
          error
              .getClass()
              .getConstructor(String.class, String.class, int.class, Throwable.class)
              .newInstance(message, state, code, error);
    } catch (ReflectiveOperationException noSuchConstructor) {
      noted = new SQLException(message, state, code, error);
    }
    noted.setNextException(error.getNextException());
    return noted;
  }
}
