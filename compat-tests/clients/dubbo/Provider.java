import org.apache.dubbo.common.config.Environment;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.model.ApplicationModel;
import zooid.Greeter;

/** A process with the service on one port: its name for others is the port. */
public final class Provider implements Greeter {
    private final int port;

    private Provider(int port) {
        this.port = port;
    }

    public static void main(String[] args) {
        Child.endWithParent();
        int port = Integer.parseInt(args[1]);
        ServiceConfig<Greeter> service = new ServiceConfig<>();
        service.setInterface(Greeter.class);
        service.setRef(new Provider(port));
        DubboBootstrap.getInstance()
                .application(application("provider"))
                .registry(registry(args[0]))
                .protocol(new ProtocolConfig("dubbo", port))
                .service(service)
                .start();
        System.out.println("ready");
        DubboBootstrap.getInstance().await();
    }

    static ApplicationConfig application(String name) {
        ApplicationConfig application = new ApplicationConfig(name);
        application.setQosEnable(false);
        return application;
    }

    /** It is the config centre and the metadata centre too. A short session, so that the dead are soon gone. */
    static RegistryConfig registry(String servers) {
        return new RegistryConfig("zookeeper://" + servers + "?session=3000");
    }

    @Override
    public String greet(String name) {
        Environment environment = ApplicationModel.defaultModel().modelEnvironment();
        return environment.getConfiguration().getString("greeting") + ", " + name + " (" + port + ")";
    }

    @Override
    public String slowly(int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        return "after " + milliseconds + " ms";
    }
}
