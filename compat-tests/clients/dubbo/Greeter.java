package zooid;

/** The service: says what the config centre has told the provider, and on which port it answers. */
public interface Greeter {
    String greet(String name);

    /** Takes so long. */
    String slowly(int milliseconds);
}
