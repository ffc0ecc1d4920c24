package zooid;

import java.util.Properties;
import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** The tests were made for a JVM per class, so some leave behind what they have set: the next class must not see it. */
public class PropertiesOfAClass implements BeforeAllCallback, AfterAllCallback {
    private Properties before;

    @Override
    public void beforeAll(ExtensionContext context) {
        before = (Properties) System.getProperties().clone();
    }

    @Override
    public void afterAll(ExtensionContext context) {
        System.setProperties(before);
    }
}
