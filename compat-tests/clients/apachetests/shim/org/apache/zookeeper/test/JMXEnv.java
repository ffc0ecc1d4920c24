package org.apache.zookeeper.test;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;

/**
 * Stands before the class of this name. The launchers ask it whether a Java server has registered its beans in the
 * tests' own process; of a process there are none to find, and none too many. A test that is about beans fails here.
 */
public class JMXEnv {
    private JMXEnv() {}

    public static void setUp() {}

    public static void tearDown() {}

    public static void dump() {}

    public static Set<ObjectName> ensureAll(String... names) {
        return new HashSet<>();
    }

    public static Set<ObjectName> ensureOnly(String... names) {
        return new HashSet<>();
    }

    public static Set<ObjectName> ensureParent(String... names) {
        return new HashSet<>();
    }

    public static void ensureNone(String... names) {}

    public static Object ensureBeanAttribute(String bean, String attribute) {
        throw new UnsupportedOperationException("the server is a process without beans");
    }

    public static MBeanServerConnection conn() {
        throw new UnsupportedOperationException("the server is a process without beans");
    }

    public static List<ObjectName> getServerBeans() {
        throw new UnsupportedOperationException("the server is a process without beans");
    }

    public static ObjectName getServerBean() {
        throw new UnsupportedOperationException("the server is a process without beans");
    }
}
