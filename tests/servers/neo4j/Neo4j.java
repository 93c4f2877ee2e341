// Starts Neo4j in this process: java -cp 'lib/*' Neo4j.java HOME CONF. Says `ready` when it answers.
import java.nio.file.Path;
import java.util.Map;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;

class Neo4j {
    public static void main(String[] args) throws Exception {
        var server = new DatabaseManagementServiceBuilder(Path.of(args[0])).loadPropertiesFromFile(Path.of(args[1])).build();
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdown));
        var password = System.getenv("LTMC_NEO4J_PASSWORD"); // where it is to be set: on the first start
        if (password != null) {
            var set = "ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED";
            server.database("system").executeTransactionally(set, Map.of("password", password));
        }
        System.out.println("ready");
        Thread.currentThread().join();
    }
}
